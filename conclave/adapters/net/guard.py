"""The guard of outgoing URLs: what may be reached is judged by address, not by name.

Names and odd spellings of addresses are resolved as a connection would resolve them, every
address is judged, and the connection is pinned to a judged one, so that an answer of the DNS that
changes in between changes nothing.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

import idna

from conclave.errors import UrlRefused

Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

MAX_URL_LENGTH = 2048
RESOLVE_SECONDS = 5.0
UNRESOLVED = "url_unresolved"
"""The `type` of a refusal that may not stand: the name has no address just now."""
_PORTS = {"http": 80, "https": 443}
_UNCLEAN = re.compile(r"[\x00-\x20\x7f\\]")
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NUMERIC_LABEL = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)")
_NAT64 = IPv6Network("64:ff9b::/96")
_REFUSED_V4 = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("169.254.0.0/16"),
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
)
_REFUSED_V6 = (
    IPv6Network("::/96"),
    IPv6Network("64:ff9b:1::/48"),
    IPv6Network("100::/64"),
    IPv6Network("2001::/23"),
    IPv6Network("2002::/16"),
    IPv6Network("3fff::/20"),
    IPv6Network("5f00::/16"),
    IPv6Network("fec0::/10"),
)
"""Never a destination: tunnels that carry another address, link-local and site-local ranges."""


@dataclass(frozen=True)
class PinnedTarget:
    """Where a judged URL leads: connect to `address`, speak to `host`."""

    scheme: str
    host: str
    port: int
    address: str


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """Return every address of a host. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def parse_allow(text: str) -> frozenset[tuple[str, int]]:
    """Read a comma list of host:port. Raises ValueError."""
    pairs: set[tuple[str, int]] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        split = urlsplit(f"//{part}")
        if not split.hostname or split.port is None:
            raise ValueError(f"OUTGOING_ALLOW: {part!r} is not host:port")
        pairs.add((split.hostname, split.port))
    return frozenset(pairs)


class OutgoingGuard:
    """A `UrlGuard`.

    `allow` holds (host, port) in private ranges that an operator opens. `own_ports` are this
    product's own: never reached on any address of this machine, by anybody.
    """

    def __init__(
        self,
        allow: frozenset[tuple[str, int]] = frozenset(),
        own_ports: frozenset[int] = frozenset(),
        resolver: Resolver = resolve_by_system,
    ) -> None:
        self._allow = allow
        self._own_ports = own_ports
        self._resolver = resolver

    async def check(self, url: str, *, field: str, administrator: bool = False) -> None:
        """Raise `UrlRefused` unless the URL may be reached."""
        await self.resolve(url, field=field, administrator=administrator)

    async def resolve(
        self, url: str, *, field: str = "url", administrator: bool = False
    ) -> PinnedTarget:
        """Return where the URL leads. Raises `UrlRefused` unless every address passes."""
        scheme, host, port = _parse(url, field)
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                found = await self._resolver(host, port)
        except (OSError, TimeoutError, UnicodeError):
            found = ()
        if not found:
            raise UrlRefused(field, f"The host {host} cannot be resolved.", type=UNRESOLVED)
        allowed = (host, port) in self._allow
        for text in found:
            reason = self._objection(_address(text), port, allowed, administrator)
            if reason is not None:
                raise UrlRefused(field, f"The address of {host} is refused: {reason}.")
        return PinnedTarget(scheme, host, port, found[0])

    def _objection(
        self, address: Address | None, port: int, allowed: bool, administrator: bool
    ) -> str | None:
        """Return why an address may not be reached, None where it may."""
        if address is None:
            return "it has a zone"
        if port in self._own_ports and _is_local(address):
            return "it is a port of this service"
        if address.is_loopback:
            return None if administrator else "it is loopback"
        if _is_never_a_destination(address):
            return "it is not a destination"
        if not _is_public(address) and not (allowed or administrator):
            return "it is in a private range"
        if not administrator and not allowed and _is_local(address):
            return "it is this machine"
        return None


def _parse(url: str, field: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL that every parser reads alike."""
    if len(url) > MAX_URL_LENGTH or _UNCLEAN.search(url):
        raise UrlRefused(field, "The URL is too long or holds blanks, controls or backslashes.")
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        raise UrlRefused(field, "The URL cannot be read.") from None
    scheme = split.scheme.lower()
    if scheme not in _PORTS:
        raise UrlRefused(field, "The URL must start with http:// or https://.")
    if "@" in split.netloc:
        raise UrlRefused(field, "The URL must not hold a user or a password.")
    if port == 0:
        raise UrlRefused(field, "The port is out of range.")
    return scheme, _host(split, field), port or _PORTS[scheme]


def _host(split: SplitResult, field: str) -> str:
    """Return the host in its plain form: an address, or an ASCII name without a trailing dot."""
    refused = UrlRefused(field, "The host of the URL cannot be read.")
    host = (split.hostname or "").lower()
    if split.netloc.startswith("["):
        literal = _address(host)
        if not isinstance(literal, IPv6Address):
            raise refused
        return str(literal)
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except idna.IDNAError:
            raise refused from None
    host = host.removesuffix(".")
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise refused
    if _NUMERIC_LABEL.fullmatch(host.rpartition(".")[2]) and _address(host) is None:
        raise UrlRefused(field, "An address in the URL must be written as four plain numbers.")
    return host


def _address(text: str) -> Address | None:
    """Return an address with what is mapped into IPv6 taken out; None for anything else."""
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_never_a_destination(address: Address) -> bool:
    if address.is_multicast or address.is_unspecified or address.is_link_local:
        return True
    if isinstance(address, IPv4Address):
        return address.is_reserved or any(address in network for network in _REFUSED_V4)
    return any(address in network for network in _REFUSED_V6)


def _is_public(address: Address) -> bool:
    return address.is_global and not address.is_reserved


def _is_local(address: Address) -> bool:
    """Whether the address is this machine's: only then can a socket be bound to it."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True

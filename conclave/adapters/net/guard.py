"""The guard of outgoing URLs: what may be reached is judged by address, not by name.

Names and odd spellings of addresses are resolved as a connection would resolve them, every
address is judged, and the connection is pinned to a judged one, so that an answer of the DNS that
changes in between changes nothing. Clients that do so: `transport` (httpx), `transport_httpx2`,
`sessions` (aiohttp). How long and how large an answer may be is their callers' business.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from conclave.adapters.net.addresses import (
    Address,
    is_local,
    is_never_a_destination,
    is_public,
    parse_address,
)
from conclave.adapters.net.urls import Endpoint, plain_host, read_url
from conclave.errors import UrlRefused
from schema.domain.urls import UrlPurpose

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

RESOLVE_SECONDS = 5.0
UNRESOLVED = "url_unresolved"
"""The `type` of a refusal that may not stand: the name has no address just now."""


@dataclass(frozen=True)
class Errand:
    """On whose behalf a URL is reached: which field named it, for what, by whose word."""

    field: str = "url"
    purpose: UrlPurpose = UrlPurpose.WEB
    administrator: bool = False


@dataclass(frozen=True)
class PinnedTarget:
    """Where a judged URL leads: connect to `address`, speak to `host`.

    git connects by itself: give it `http.curloptResolve=host:port:address` and
    `http.followRedirects=false`, or ssh `-o HostName=address -o HostKeyAlias=host`.
    """

    scheme: str
    host: str
    port: int
    address: str


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """Return every address of a host. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


async def never() -> bool:
    """Webhooks lead to no private address."""
    return False


class OutgoingGuard:
    """A `UrlGuard`.

    `allow` holds (host, port) in private ranges that an operator opens. `own_ports` are this
    product's own: never reached on any address of this machine, by anybody. `own_endpoints` are
    what it stands on (database, Temporal, stores): never reached by anybody, wherever they are.
    `private_webhooks` tells whether webhooks may lead into private ranges.
    """

    def __init__(
        self,
        allow: frozenset[Endpoint] = frozenset(),
        own_ports: frozenset[int] = frozenset(),
        resolver: Resolver = resolve_by_system,
        *,
        own_endpoints: frozenset[Endpoint] = frozenset(),
        private_webhooks: Callable[[], Awaitable[bool]] = never,
    ) -> None:
        own = frozenset((plain_host(host) or host, port) for host, port in own_endpoints)
        for host, port in sorted(allow):
            address = parse_address(host)
            if (host, port) in own or (
                port in own_ports and address is not None and is_local(address)
            ):
                raise ValueError(
                    f"OUTGOING_ALLOW: {host}:{port} belongs to this service, which no list opens"
                )
        self._allow = allow
        self._own_ports = own_ports
        self._own_endpoints = own
        self._resolver = resolver
        self._private_webhooks = private_webhooks

    async def check(
        self,
        url: str,
        *,
        field: str,
        administrator: bool = False,
        purpose: UrlPurpose = UrlPurpose.WEB,
    ) -> None:
        """Raise `UrlRefused` unless the URL may be reached."""
        await self.resolve(url, field=field, administrator=administrator, purpose=purpose)

    async def resolve(
        self,
        url: str,
        *,
        field: str = "url",
        administrator: bool = False,
        purpose: UrlPurpose = UrlPurpose.WEB,
    ) -> PinnedTarget:
        """Return where the URL leads. Raises `UrlRefused` unless every address passes."""
        scheme, host, port = read_url(url, field, purpose)
        address = await self.pin(host, port, Errand(field, purpose, administrator))
        return PinnedTarget(scheme, host, port, address)

    async def pin(self, host: str, port: int, errand: Errand) -> str:
        """Return the address to connect to. Raises `UrlRefused` unless every address passes."""
        if (host, port) in self._own_endpoints:
            raise UrlRefused(errand.field, f"{host}:{port} belongs to this service.")
        found = await self._resolved(host, port)
        if not found:
            raise UrlRefused(errand.field, f"The host {host} cannot be resolved.", type=UNRESOLVED)
        opened = (host, port) in self._allow or errand.administrator
        private = opened or (
            errand.purpose is UrlPurpose.WEBHOOK and await self._private_webhooks()
        )
        own = await self._own_addresses(port)
        for text in found:
            address = parse_address(text)
            reason = "it has a zone" if address is None else None
            if address is not None:
                reason = self._objection(address, port, own) or _foreign_objection(
                    address, administrator=errand.administrator, opened=opened, private=private
                )
            if reason is not None:
                raise UrlRefused(errand.field, f"The address of {host} is refused: {reason}.")
        return found[0]

    def _objection(self, address: Address, port: int, own: frozenset[Address]) -> str | None:
        """Return why an address is this service's own, None where it is not."""
        here = is_local(address)
        if here and port in self._own_ports:
            return "it is a port of this service"
        if address in own or (here and any(is_local(one) for one in own)):
            return "it is a port of this service"
        return None

    async def _own_addresses(self, port: int) -> frozenset[Address]:
        """Return where the service's own parts with this port are just now."""
        found: set[Address] = set()
        for host, own_port in self._own_endpoints:
            if own_port == port:
                parsed = [parse_address(text) for text in await self._resolved(host, port)]
                found.update(address for address in parsed if address is not None)
        return frozenset(found)

    async def _resolved(self, host: str, port: int) -> Sequence[str]:
        if parse_address(host) is not None:
            return (host,)  # asking the system would cost a thread
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                return await self._resolver(host, port)
        except (OSError, TimeoutError, UnicodeError):
            return ()


def _foreign_objection(
    address: Address, *, administrator: bool, opened: bool, private: bool
) -> str | None:
    """Return why an address may not be reached, None where it may.

    `opened`: by an operator's list or an administrator's word. `private`: private ranges are.
    """
    if address.is_loopback:
        return None if administrator else "it is loopback"
    if is_never_a_destination(address):
        return "it is not a destination"
    if not is_public(address) and not private:
        return "it is in a private range"
    if not opened and is_local(address):
        return "it is this machine"
    return None

"""Reading URLs so that every parser after us reads the same, and lists of host:port."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from urllib.parse import SplitResult, parse_qs, urlsplit

import idna

from conclave.adapters.net.addresses import is_never_a_destination, parse_address
from conclave.errors import UrlRefused
from conclave.loopback import is_loopback
from schema.domain.urls import UrlPurpose

MAX_URL_LENGTH = 2048
_WEB_PORTS = {"http": 80, "https": 443}
_PORTS = {
    UrlPurpose.WEB: _WEB_PORTS,
    UrlPurpose.WEBHOOK: _WEB_PORTS,
    UrlPurpose.GIT: {"https": 443, "ssh": 22},
}
_UNCLEAN = re.compile(r"[\x00-\x20\x7f\\]")
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_BRACKETED = re.compile(r"\[[^\]]*\](?::[0-9]*)?")
_NUMERIC_LABEL = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)")
_SSH_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_SCP_LIKE = re.compile(r"(?:[^/@:]+@)?[^/@:]+:(?!//)")
_ANYWHERE = frozenset({"0.0.0.0", "::"})

Endpoint = tuple[str, int]
"""Host and port."""


def read_url(url: str, field: str, purpose: UrlPurpose) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL that every parser reads alike. Raises `UrlRefused`."""
    if len(url) > MAX_URL_LENGTH or _UNCLEAN.search(url):
        raise UrlRefused(field, "The URL is too long or holds blanks, controls or backslashes.")
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        raise UrlRefused(field, "The URL cannot be read.") from None
    ports = _PORTS[purpose]
    scheme = split.scheme.lower()
    if scheme not in ports or "://" not in url[: len(scheme) + 3]:
        raise UrlRefused(field, _scheme_reason(url, purpose))
    _refuse_userinfo(split, field, scheme)
    if port == 0:
        raise UrlRefused(field, "The port is out of range.")
    return scheme, _host(split, field), port or ports[scheme]


def _scheme_reason(url: str, purpose: UrlPurpose) -> str:
    if purpose is not UrlPurpose.GIT:
        return "The URL must start with http:// or https://."
    if _SCP_LIKE.match(url) and "::" not in url:
        return "Write the URL as ssh://user@host/path."
    return "The URL must start with https:// or ssh://."


def _refuse_userinfo(split: SplitResult, field: str, scheme: str) -> None:
    user, at, host = split.netloc.rpartition("@")
    if not at:
        return
    if scheme == "ssh" and _SSH_USER.fullmatch(user) and host:
        return
    raise UrlRefused(field, "The URL must not hold a user or a password.")


def _host(split: SplitResult, field: str) -> str:
    """Return the host in its plain form: an address, or an ASCII name without a trailing dot."""
    refused = UrlRefused(field, "The host of the URL cannot be read.")
    netloc = split.netloc.rpartition("@")[2]
    if "[" in netloc or "]" in netloc:
        literal = parse_address(split.hostname or "") if _BRACKETED.fullmatch(netloc) else None
        try:
            IPv6Address(split.hostname or "")
        except ValueError:
            raise refused from None
        if literal is None:
            raise refused
        return str(literal)
    host = plain_host(split.hostname or "")
    if host is None:
        raise refused
    if _NUMERIC_LABEL.fullmatch(host.rpartition(".")[2]) and parse_address(host) is None:
        raise UrlRefused(field, "An address in the URL must be written as four plain numbers.")
    return host


def plain_host(host: str) -> str | None:
    """Return a name as the DNS knows it; None for what is no name."""
    host = host.lower()
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except idna.IDNAError:
            return None
    host = host.removesuffix(".")
    return host if len(host) <= 253 and _HOST.fullmatch(host) else None


def parse_allow(text: str) -> frozenset[Endpoint]:
    """Read OUTGOING_ALLOW, a comma list of host:port.

    Raises ValueError, also for what no list opens: loopback and what is no destination. Names
    that lead there are refused when they are used.
    """
    pairs: set[Endpoint] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        split = urlsplit(f"//{part}")
        if not split.hostname or split.port is None or "@" in part or "/" in part:
            raise ValueError(f"OUTGOING_ALLOW: {part!r} is not host:port")
        try:
            _, host, port = read_url(f"http://{part}", "OUTGOING_ALLOW", UrlPurpose.WEB)
        except UrlRefused as error:
            raise ValueError(f"OUTGOING_ALLOW: {part!r}: {error.message}") from None
        address = parse_address(host)
        if is_loopback(host) or host.endswith(".localhost"):
            raise ValueError(f"OUTGOING_ALLOW: {part!r} is loopback, which no list opens")
        if address is not None and is_never_a_destination(address):
            raise ValueError(f"OUTGOING_ALLOW: {part!r} is no destination, which no list opens")
        pairs.add((host, port))
    return frozenset(pairs)


def endpoints_of(url: str | None, default_port: int | None = None) -> frozenset[Endpoint]:
    """Return every host and port a connection string names, also those in its query.

    What it does not name (a socket's directory, a file, a bucket) is left out.
    """
    if not url:
        return frozenset()
    split = urlsplit(url if "://" in url else f"//{url}")
    default = default_port or _WEB_PORTS.get(split.scheme)
    query = parse_qs(split.query)
    found: set[Endpoint] = set()
    named = split.netloc.rpartition("@")[2].split(",")
    for host in (*query.get("host", []), *query.get("hostaddr", [])):
        named += [
            f"{one}:{query['port'][0]}" if "port" in query else one for one in host.split(",")
        ]
    for name in named:
        try:
            one = urlsplit(f"//{name}")
            port = one.port or default
        except ValueError:
            continue
        if one.hostname and port and not one.path:
            found.add(("127.0.0.1" if one.hostname in _ANYWHERE else one.hostname, port))
    return frozenset(found)

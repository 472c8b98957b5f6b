"""Which server, and with which token."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote, urlencode, urlsplit

from conclave.loopback import is_loopback
from conclave.terminal.errors import AddressRefused


@dataclass(frozen=True)
class Server:
    """An API and what lets us in; the token never shows in a repr."""

    url: str
    token: str = field(repr=False)

    def __post_init__(self) -> None:
        check_address(self.url)

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine's own; then no proxy stands between."""
        return is_loopback(check_address(self.url))

    def socket_url(self, chat_id: str, after: int | None) -> str:
        """Return the socket's address. It holds the token: never print or log it."""
        base = self.url.rstrip("/").replace("http", "ws", 1)
        query = {"token": self.token} | ({} if after is None else {"after": str(after)})
        return f"{base}/ws/{quote(chat_id, safe='')}?{urlencode(query)}"


def check_address(url: str) -> str:
    """Return the host of an address of an API; raises `AddressRefused`."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise AddressRefused("The address of the server cannot be read") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise AddressRefused("The address of the server must start with http:// or https://")
    if parts.username is not None or parts.query or parts.fragment:
        raise AddressRefused("The address of the server holds more than host, port and path")
    return host

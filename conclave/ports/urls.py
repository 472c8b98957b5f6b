"""Everything that leaves for an address somebody gave."""

from __future__ import annotations

from typing import Protocol

from schema.domain.urls import UrlPurpose
from schema.domain.web import WebAnswer, WebRequest


class UrlGuard(Protocol):
    """Judges outgoing URLs."""

    async def check(
        self,
        url: str,
        *,
        field: str,
        administrator: bool = False,
        purpose: UrlPurpose = UrlPurpose.WEB,
    ) -> None:
        """Raise `UrlRefused` unless the URL may be reached.

        `administrator` marks provider base URLs: loopback and private ranges are theirs to use.
        """
        ...


class WebClient(Protocol):
    """Sends the HTTP requests of tools, none of them past the guard of outgoing URLs."""

    async def send(self, request: WebRequest, *, timeout: float) -> WebAnswer:
        """Return the answer, whatever its status; redirects are followed and judged each.

        Raises `UrlRefused`, `Invalid` for headers that cannot be sent, `WebFailed` where no
        answer came within `timeout` seconds.
        """
        ...


class RemoteUrls(Protocol):
    """Judges the addresses of git remotes."""

    async def check(self, url: str, *, field: str) -> None:
        """Raise `UrlRefused` for what may never be asked. A name unknown just now passes."""
        ...

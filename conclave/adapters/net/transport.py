"""httpx behind the guard: each request, so each redirect too, is judged and pinned."""

from __future__ import annotations

import httpx

from conclave.adapters.net.guard import Errand, OutgoingGuard
from conclave.adapters.net.hops import judge, pinned_extensions
from conclave.adapters.net.redirects import MAX_REDIRECTS
from schema.domain.urls import UrlPurpose


class GuardedTransport(httpx.AsyncBaseTransport):
    """Connects to the judged address while Host and TLS keep the name.

    Connections are not kept: a pool knows them by address, and two names of one address must not
    share a connection whose certificate was checked for one of them. Raises `UrlRefused`.
    """

    def __init__(self, guard: OutgoingGuard, errand: Errand) -> None:
        self._guard = guard
        self._errand = errand
        self._inner = httpx.AsyncHTTPTransport(
            trust_env=False, limits=httpx.Limits(max_connections=100, max_keepalive_connections=0)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Judge, then send."""
        target = await judge(self._guard, request, self._errand)
        pinned = httpx.Request(
            request.method,
            request.url.copy_with(host=target.address),
            headers=request.headers,
            stream=request.stream,
            extensions=pinned_extensions(request, target),
        )
        return await self._inner.handle_async_request(pinned)

    async def aclose(self) -> None:
        """Close what is open."""
        await self._inner.aclose()


def guarded_client(
    guard: OutgoingGuard,
    *,
    field: str = "url",
    administrator: bool = False,
    purpose: UrlPurpose = UrlPurpose.WEB,
    timeout: float = 10.0,
) -> httpx.AsyncClient:
    """Return a client that reaches nothing past the guard: no proxies from the environment.

    It follows redirects only where asked to (`follow_redirects`), five at most.
    """
    return httpx.AsyncClient(
        transport=GuardedTransport(guard, Errand(field, purpose, administrator)),
        timeout=timeout,
        trust_env=False,
        max_redirects=MAX_REDIRECTS,
    )

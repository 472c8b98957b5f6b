"""aiohttp behind the guard: every URL is read, every name resolved by the guard alone."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from conclave.adapters.net.addresses import parse_address
from conclave.adapters.net.guard import Errand, OutgoingGuard
from conclave.adapters.net.redirects import MAX_REDIRECTS, Origin, judge_redirect
from conclave.adapters.net.urls import plain_host, read_url
from conclave.errors import UrlRefused
from schema.domain.urls import UrlPurpose

_FOLLOWED = "followed_redirects"


class GuardedResolver(AbstractResolver):
    """Answers with the one address the guard has judged: what aiohttp then connects to."""

    def __init__(self, guard: OutgoingGuard, errand: Errand) -> None:
        self._guard = guard
        self._errand = errand

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return where to connect. Raises `UrlRefused`."""
        name = plain_host(host)
        if name is None:
            raise UrlRefused(self._errand.field, "The host of the URL cannot be read.")
        address = await self._guard.pin(name, port, self._errand)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
        ]

    async def close(self) -> None:
        """Nothing is open."""


class _Judge:
    """A middleware: addresses written as such pass no resolver and are judged here."""

    def __init__(self, guard: OutgoingGuard, errand: Errand) -> None:
        self._guard = guard
        self._errand = errand

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        _, host, port = read_url(str(request.url), self._errand.field, self._errand.purpose)
        if parse_address(host) is not None:
            await self._guard.pin(host, port, self._errand)
        return await handler(request)


class _Redirects:
    """Reads the URL as it was given, and judges each redirect before aiohttp follows it.

    aiohttp takes a user and a password out of a URL before any middleware sees it.
    """

    def __init__(self, errand: Errand) -> None:
        self._field = errand.field
        self._purpose = errand.purpose

    async def begin(
        self,
        session: aiohttp.ClientSession,
        context: SimpleNamespace,
        request: aiohttp.TraceRequestStartParams,
    ) -> None:
        read_url(str(request.url), self._field, self._purpose)

    async def follow(
        self,
        session: aiohttp.ClientSession,
        context: SimpleNamespace,
        redirect: aiohttp.TraceRequestRedirectParams,
    ) -> None:
        response = redirect.response
        followed: int = getattr(context, _FOLLOWED, 0) + 1
        setattr(context, _FOLLOWED, followed)
        try:
            if followed > MAX_REDIRECTS:
                raise UrlRefused(self._field, f"More than {MAX_REDIRECTS} redirects.")
            location = response.headers.get("Location") or response.headers.get("URI", "")
            target = redirect.url.join(URL(location))  # as aiohttp finds it
            read_url(str(target), self._field, self._purpose)
            judge_redirect(
                _origin(redirect.url),
                _origin(target),
                redirect.headers,
                has_body=_keeps_body(redirect.method, response.status),
                field=self._field,
            )
        except (UrlRefused, ValueError):
            response.close()
            raise


def _origin(url: URL) -> Origin:
    return Origin(url.scheme, url.host or "", url.port)


def _keeps_body(method: str, status: int) -> bool:
    """Whether the request that follows has the method, and so the body, of the one before."""
    if method in {"GET", "HEAD"} or status == 303:
        return False
    return status in {307, 308} or method != "POST"


def guarded_session(
    guard: OutgoingGuard,
    *,
    field: str = "url",
    administrator: bool = False,
    purpose: UrlPurpose = UrlPurpose.WEB,
    timeout: float | None = 10.0,
    keep_seconds: float = 0.0,
    limit: int = 100,
) -> aiohttp.ClientSession:
    """Return a session that reaches nothing past the guard. Made inside a running loop.

    Connections are known by name here, so that idle ones may be kept for `keep_seconds`; they
    were judged when they were opened. `limit` is the most of them at once. Middlewares given to a
    single request would replace the guard's: give none.
    """
    errand = Errand(field, purpose, administrator)
    redirects, tracing = _Redirects(errand), aiohttp.TraceConfig()
    tracing.on_request_start.append(redirects.begin)
    tracing.on_request_redirect.append(redirects.follow)
    resolver = GuardedResolver(guard, errand)
    if keep_seconds:
        connector = aiohttp.TCPConnector(
            resolver=resolver, use_dns_cache=False, limit=limit, keepalive_timeout=keep_seconds
        )
    else:
        connector = aiohttp.TCPConnector(
            resolver=resolver, use_dns_cache=False, limit=limit, force_close=True
        )
    return aiohttp.ClientSession(
        connector=connector,
        middlewares=(_Judge(guard, errand),),
        trace_configs=[tracing],
        timeout=aiohttp.ClientTimeout(total=timeout),
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )

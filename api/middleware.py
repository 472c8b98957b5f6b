"""What happens to every request, as plain ASGI: ids, headers, limits, log line, the last catch."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Collection, Sequence
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from api.answer_headers import complete
from api.credentials import hide_url_token
from api.dialect import Dialect
from api.errors import INTERNAL, problem_of, render
from conclave.addresses import Proxies
from conclave.errors import TooLarge
from conclave.logging import get_logger

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_FORWARDED_FOR = b"x-forwarded-for"
_PROBES = ("/health/live", "/health/ready")
_log = get_logger("api.access")


def header(scope: Scope, name: bytes) -> str | None:
    """Return the first header of that (lower-case) name."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return next((value.decode("latin-1") for key, value in headers if key == name), None)


def _as_sent(scope: Scope) -> str:
    """Return the path still percent-encoded: a decoded newline would forge a line of the log."""
    sent: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return sent.decode("latin-1")


class RequestContext:
    """Names each request, logs its outcome, and answers 500 for what nobody caught.

    An X-Request-ID of the client is kept where it is short and plain; the answer carries it.
    Whatever is asked further in finds the caller's own address and scheme in the scope, where
    trusted proxies tell of them.
    """

    def __init__(self, app: ASGIApp, dialects: Sequence[Dialect], proxies: Proxies) -> None:
        self._app = app
        self._dialects = dialects
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request with its id on every log line."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        sent = header(scope, b"x-request-id") or ""
        request_id = sent if _SANE_ID.fullmatch(sent) else uuid.uuid4().hex
        scope["request_id"] = request_id
        if self._proxies:
            self._believe_proxies(scope)
        with bound_contextvars(request_id=request_id):
            if scope["type"] == "http":
                await self._http(scope, receive, send, request_id)
            else:
                hide_url_token(scope)
                await self._app(scope, receive, send)

    def _believe_proxies(self, scope: Scope) -> None:
        peer: tuple[str, int] | None = scope.get("client")
        if peer is None or not self._proxies.trusts(peer[0]):
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        hops = [value.decode("latin-1") for name, value in headers if name == _FORWARDED_FOR]
        scope["client"] = (self._proxies.caller(peer[0], ",".join(hops)), peer[1])
        scheme = (header(scope, b"x-forwarded-proto") or "").rpartition(",")[2].strip().lower()
        if scheme in {"http", "https"}:
            is_socket = scope["type"] == "websocket"
            scope["scheme"] = scheme.replace("http", "ws") if is_socket else scheme

    async def _http(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        started = time.perf_counter()
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                complete(message, scope, request_id, time.perf_counter() - started)
            await send(message)

        try:
            await self._app(scope, receive, note)
        except ClientDisconnect:
            status = status or 499
        except Exception as error:
            _log.error("request_crashed", path=scope["path"], exc_info=error)
            if status:
                raise
            await render(scope["path"], INTERNAL, self._dialects)(scope, receive, note)
        finally:
            log = _log.debug if scope["path"] in _PROBES else _log.info
            log(
                "request",
                method=scope["method"],
                path=_as_sent(scope),
                status=status,
                ms=round((time.perf_counter() - started) * 1000, 1),
            )


class BodyLimit:
    """Refuses bodies over a number of bytes, announced or not.

    The paths of `own_limits` count for themselves.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        dialects: Sequence[Dialect],
        own_limits: Collection[str] = (),
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._dialects = dialects
        self._own_limits = frozenset(own_limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 413 at once where the length is announced, else while it is read."""
        if scope["type"] != "http" or scope["path"].rstrip("/") in self._own_limits:
            await self._app(scope, receive, send)
            return
        too_large = TooLarge(f"The body is larger than {self._max_bytes} bytes")
        announced = header(scope, b"content-length") or ""
        if announced.isdecimal() and (len(announced) > 18 or int(announced) > self._max_bytes):
            response = render(scope["path"], problem_of(too_large), self._dialects)
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._max_bytes:
                    raise too_large
            return message

        await self._app(scope, counted, send)


class Head:
    """Answers HEAD as it would GET, without the body (RFC 9110, section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask for GET and let nothing but the head through; a stream ends there."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        is_answered = False

        async def head_only(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                is_answered = True

        async def until_answered() -> Message:
            return {"type": "http.disconnect"} if is_answered else await receive()

        await self._app({**scope, "method": "GET"}, until_answered, head_only)


class TrailingSlash:
    """Lets `/agents/` be `/agents`, without a redirect."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on under its plain path."""
        if scope["type"] in {"http", "websocket"}:
            path: str = scope["path"]
            if len(path) > 1 and path.endswith("/"):
                scope = {**scope, "path": path.rstrip("/") or "/"}
        await self._app(scope, receive, send)

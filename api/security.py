"""The gate before every path: from where a request may come at all.

Under AUTH_MODE=local nobody needs to show credentials, so the connection itself must be local,
for every request: both its ends on loopback, a loopback Host header (a rebound DNS name is not
one) and no foreign Origin. Under AUTH_MODE=required credentials decide (`api.admission`), and
CORS says which pages of other origins may use them. WebSockets know no CORS: a foreign Origin
is refused in both modes. CORS_ORIGINS lists the exceptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.answer_headers import EXPOSED
from api.dialect import Dialect, Problem
from api.errors import problem_of, render
from api.middleware import header
from conclave.addresses import UNKNOWN_ADDRESS
from conclave.errors import Forbidden
from conclave.loopback import is_loopback
from conclave.networks import parse_address
from conclave.origins import Origin, parse_origin, parse_origins
from conclave.settings import AuthMode, Settings

CODEC_PREFIX = "/codec"
_POLICY_VIOLATION = 1008


class InsecureBind(RuntimeError):
    """AUTH_MODE=local admits anybody who can connect: it must be bound to loopback."""


def check_bind(settings: Settings) -> None:
    """Raise `InsecureBind` where anonymous callers could come from elsewhere."""
    if settings.auth_mode is AuthMode.LOCAL and not is_loopback(settings.api_host):
        raise InsecureBind(
            f"AUTH_MODE=local lets anybody in who can connect, and API_HOST={settings.api_host} "
            "is not loopback. Set AUTH_MODE=required, or API_HOST=127.0.0.1."
        )


def _addresses_loopback(scope: Scope) -> bool:
    """Whether both ends of the connection are loopback, as far as the server knows them."""
    for end in ("client", "server"):
        pair: Sequence[object] | None = scope.get(end)
        if pair and pair[1] is not None:
            host = str(pair[0])
            if _is_literal(host) and not is_loopback(host):
                return False
    return True


@lru_cache(maxsize=1024)
def _is_literal(host: str) -> bool:
    return host == UNKNOWN_ADDRESS or parse_address(host) is not None


@dataclass(frozen=True)
class _Sharing:
    """What pages of another origin may do (the fetch standard's CORS protocol)."""

    methods: str
    headers: str
    exposed: str = ""
    credentials: bool = False

    def around(self, send: Send, origin: str) -> Send:
        """Return a `send` that says so on the answer."""

        async def share(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Access-Control-Allow-Origin"] = origin
                headers["Access-Control-Allow-Methods"] = self.methods
                headers["Access-Control-Allow-Headers"] = self.headers
                if self.exposed:
                    headers["Access-Control-Expose-Headers"] = self.exposed
                if self.credentials:
                    headers["Access-Control-Allow-Credentials"] = "true"
                headers.add_vary_header("Origin")
            await send(message)

        return share


_FOR_UI = _Sharing("POST, OPTIONS", "authorization, content-type, x-namespace", credentials=True)
_FOR_LISTED = _Sharing(
    "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    "authorization, content-type, idempotency-key, last-event-id, x-api-key, x-request-id",
    exposed=", ".join(EXPOSED),
)


class Gate:
    """Lets a request through, or answers 403 in its dialect; answers preflights."""

    def __init__(self, app: ASGIApp, settings: Settings, dialects: Sequence[Dialect]) -> None:
        self._app = app
        self._is_local = settings.auth_mode is AuthMode.LOCAL
        self._dialects = dialects
        self._listed = frozenset(parse_origins(settings.cors_origins))
        self._ui_origins = _ui_origins(settings.temporal_ui_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge the request by its connection and headers alone."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        origin = header(scope, b"origin")
        sharing = None if origin is None else self._sharing(scope["path"], origin)
        refusal = self._judge(scope, origin, is_shared=sharing is not None)
        if scope["type"] == "websocket":
            if refusal is None:
                await self._app(scope, receive, send)
            else:
                await _refuse_websocket(refusal, receive, send)
            return
        if sharing is not None and origin is not None:
            send = sharing.around(send, origin)
        if refusal is not None:
            await render(scope["path"], refusal, self._dialects)(scope, receive, send)
        elif sharing is not None and scope["method"] == "OPTIONS":
            await Response(status_code=204)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _judge(self, scope: Scope, origin: str | None, *, is_shared: bool) -> Problem | None:
        if self._is_local:
            own = parse_origin(f"{scope['scheme']}://{header(scope, b'host') or ''}")
            if own is None or not is_loopback(own[1]) or not _addresses_loopback(scope):
                return _refused("Only this machine may call: the Host is not loopback")
            is_own = parse_origin(origin) == own if origin is not None else True
        else:
            is_own = scope["type"] == "http" or origin is None or _is_same_host(scope, origin)
        return None if is_own or is_shared else _refused("This Origin may not call")

    def _sharing(self, path: str, origin: str) -> _Sharing | None:
        parsed = parse_origin(origin)
        if parsed in self._ui_origins and path.startswith(f"{CODEC_PREFIX}/"):
            return _FOR_UI
        return _FOR_LISTED if parsed in self._listed else None


def _refused(message: str) -> Problem:
    return problem_of(Forbidden(message))


def _is_same_host(scope: Scope, origin: str) -> bool:
    """Whether a page of this very host asks. Its scheme is the proxy's to know, not ours."""
    parsed = parse_origin(origin)
    if parsed is None:
        return False
    scheme = "https" if parsed[0] else "http"
    return parse_origin(f"{scheme}://{header(scope, b'host') or ''}") == parsed


def _ui_origins(url: str | None) -> frozenset[Origin]:
    """Return the UI's origin; a loopback one under each of its usual spellings."""
    origin = parse_origin(url.rstrip("/")) if url else None
    if origin is None:
        return frozenset()
    secure, host, port = origin
    hosts = {host, "localhost", "127.0.0.1"} if is_loopback(host) else {host}
    return frozenset((secure, name, port) for name in hosts)


async def _refuse_websocket(refusal: Problem, receive: Receive, send: Send) -> None:
    """Close before accepting, which the server turns into an HTTP 403."""
    await receive()
    await send(
        {"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": refusal.message[:120]}
    )

"""The gate before every path: who may call at all.

Under AUTH_MODE=local nobody shows credentials, so the connection itself must be local: both its
ends on loopback, a loopback Host header (a rebound DNS name is not one) and no foreign Origin.
Under AUTH_MODE=required only the open paths answer without credentials.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.dialect import Dialect, Problem
from api.errors import problem_of, render
from api.middleware import header
from conclave.errors import Forbidden, Unauthenticated
from conclave.loopback import is_loopback
from conclave.settings import AuthMode, Settings

CODEC_PREFIX = "/codec"
_OPEN_PATHS = frozenset({"/health", "/docs", "/redoc", "/openapi.json"})
_OPEN_PREFIXES = ("/health/", "/docs/")
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_SECURE = {"https", "wss"}
_POLICY_VIOLATION = 1008

Origin = tuple[bool, str, int]
"""Secure or not, host, port."""


class InsecureBind(RuntimeError):
    """AUTH_MODE=local admits anybody who can connect: it must be bound to loopback."""


def check_bind(settings: Settings) -> None:
    """Raise `InsecureBind` where anonymous callers could come from elsewhere."""
    if settings.auth_mode is AuthMode.LOCAL and not is_loopback(settings.api_host):
        raise InsecureBind(
            f"AUTH_MODE=local lets anybody in who can connect, and API_HOST={settings.api_host} "
            "is not loopback. Set AUTH_MODE=required, or API_HOST=127.0.0.1."
        )


@lru_cache(maxsize=1024)
def parse_origin(text: str) -> Origin | None:
    """Read `scheme://host[:port]`; None for anything else, `null` included."""
    try:
        parts = urlsplit(text)
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    if not parts.hostname or parts.username is not None or parts.path not in {"", "/"}:
        return None
    return parts.scheme in _SECURE, parts.hostname.lower(), port


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
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


class Gate:
    """Lets a request through, or answers 401 or 403 in its dialect."""

    def __init__(self, app: ASGIApp, settings: Settings, dialects: Sequence[Dialect]) -> None:
        self._app = app
        self._mode = settings.auth_mode
        self._dialects = dialects
        self._ui_origins = _ui_origins(settings.temporal_ui_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge the request by its connection and headers alone."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        sent_origin = header(scope, b"origin")
        for_ui = self._is_for_ui(scope["path"], sent_origin)
        refusal = self._judge(scope, sent_origin, for_ui=for_ui)
        if for_ui and sent_origin is not None:
            send = _with_cors(send, sent_origin)
            if scope["type"] == "http" and scope["method"] == "OPTIONS" and refusal is None:
                await Response(status_code=204)(scope, receive, send)
                return
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await render(scope["path"], refusal, self._dialects)(scope, receive, send)
        else:
            await _refuse_websocket(refusal, receive, send)

    def _judge(self, scope: Scope, sent_origin: str | None, *, for_ui: bool) -> Problem | None:
        if self._mode is AuthMode.REQUIRED:
            if _is_open(scope["path"]) or (for_ui and scope.get("method") == "OPTIONS"):
                return None
            return problem_of(Unauthenticated("Not authenticated"))
        host = header(scope, b"host") or ""
        own = parse_origin(f"{scope['scheme']}://{host}")
        if own is None or not is_loopback(own[1]) or not _addresses_loopback(scope):
            return problem_of(Forbidden("Only this machine may call: the Host is not loopback"))
        if sent_origin is not None and not for_ui and parse_origin(sent_origin) != own:
            return problem_of(Forbidden("This Origin may not call"))
        return None

    def _is_for_ui(self, path: str, sent_origin: str | None) -> bool:
        if sent_origin is None or not path.startswith(f"{CODEC_PREFIX}/"):
            return False
        return parse_origin(sent_origin) in self._ui_origins


def _ui_origins(url: str | None) -> frozenset[Origin]:
    """Return the UI's origin; a loopback one under each of its usual spellings."""
    origin = parse_origin(url.rstrip("/")) if url else None
    if origin is None:
        return frozenset()
    secure, host, port = origin
    hosts = {host, "localhost", "127.0.0.1"} if is_loopback(host) else {host}
    return frozenset((secure, name, port) for name in hosts)


def _is_open(path: str) -> bool:
    plain = path.rstrip("/") or "/"
    return plain in _OPEN_PATHS or plain.startswith(_OPEN_PREFIXES)


def _with_cors(send: Send, origin: str) -> Send:
    async def allow(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Allow-Methods"] = "POST, OPTIONS"
            headers["Access-Control-Allow-Headers"] = "authorization, content-type, x-namespace"
            headers["Access-Control-Allow-Credentials"] = "true"
            headers.add_vary_header("Origin")
        await send(message)

    return allow


async def _refuse_websocket(refusal: Problem, receive: Receive, send: Send) -> None:
    """Close before accepting, which the server turns into an HTTP 403."""
    await receive()
    await send(
        {"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": refusal.message[:120]}
    )

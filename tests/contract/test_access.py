"""Every route × every kind of caller × both modes, against what the contract says."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute
from pydantic import SecretStr
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from api.access import TABLE, NoRule, rule_for
from api.admission import Admission
from api.app import DIALECTS, ROUTERS, create_app
from api.errors import install
from api.input import CheckedRouter
from conclave.container import Core, build_core
from conclave.settings import AuthMode, Settings
from schema.domain.identity import PrincipalKind, Role
from tests.contract.expectations import CONTRACT, SETTLED, Expected, expectations, plain
from tests.fakes.callers import CALLERS, FakeAuthenticator, bearer
from tests.fakes.engine import FakeEngine
from tests.fakes.limits import Uncounted

pytestmark = pytest.mark.skipif(not CONTRACT.exists(), reason="no contract beside this checkout")

FALLBACK = "/ws/{:path}"
"""Not the same as the gateway's /ws/{chat_id}, whose chat ids are UUIDs."""
OWN: dict[tuple[str, str], tuple[Expected, str]] = {
    ("GET", "/conversations/{}/events"): (
        Expected("viewer", anonymous_local=True),
        "a conversation as server-sent events: read like the conversation",
    ),
    ("WS", FALLBACK): (
        Expected("viewer", anonymous_local=True, only_credentials=True),
        "what no channel knows closes with 4004, for those only who may call at all",
    ),
    ("POST", "/codec/decode"): (
        Expected("admin", anonymous_local=True),
        "decrypts workflow payloads for Temporal's UI (DESIGN.md, section 3)",
    ),
    ("POST", "/codec/encode"): (Expected("admin", anonymous_local=True), "the same, encrypting"),
    ("GET", "/docs/swagger-ui.css"): (Expected("public"), "a file of /docs"),
    ("GET", "/docs/swagger-ui-bundle.js"): (Expected("public"), "a file of /docs"),
    ("GET", "/docs/start.js"): (Expected("public"), "a file of /docs"),
    ("POST", "/api/v1/auth/verify-mfa"): (
        Expected("public"),
        "alias of the second step of a login (platform.md, 31): the token is in the body",
    ),
    ("GET", "/api/v1/dead-letter/{}"): (Expected("admin"), "platform.md, 31: worth having"),
    ("GET", "/api/v1/circuit-breakers/{}"): (
        Expected("admin"),
        "platform.md, 31: one of the list",
    ),
    ("GET", "/api/chats/{}"): (Expected("viewer"), "gateway.md: the transcript, ours"),
    ("GET", "/api/v1/cost/prices"): (Expected("viewer"), "platform.md, 14: prices that are set"),
    ("PUT", "/api/v1/cost/prices"): (Expected("admin"), "platform.md, 14: a price is set"),
    **{
        (method, path): (Expected(who), "gateway.md: an alias for older command-line clients")
        for method, path, who in (
            ("GET", "/api/profiles/default/current", "viewer"),
            ("POST", "/api/profiles/default/set", "admin"),
            ("GET", "/api/chats/{}/active-profile", "viewer"),
            ("POST", "/api/chats/{}/active-profile", "operator"),
            ("POST", "/api/chats/{}/cancel", "operator"),
            ("POST", "/api/chats/{}/panic", "operator"),
            ("POST", "/api/panic", "operator"),
            ("GET", "/api/sandbox", "viewer"),
            ("POST", "/api/sandbox", "admin"),
            ("POST", "/api/sandbox/build", "admin"),
        )
    },
    ("DELETE", "/api/v1/security/sessions/{}"): (Expected("admin"), "platform.md, 31 and 0.4"),
    ("POST", "/api/v1/triggers/{}/test"): (Expected("operator"), "platform.md, 31: a firing"),
    ("PATCH", "/api/v1/admin/users/{}"): (Expected("admin"), "roles and disabling of users"),
}
"""Routes that the contract's tables do not name: who may call them, and why they are there."""

KINDS = ("nobody", "expired", *CALLERS)
_ROLES = {"viewer": Role.VIEWER, "operator": Role.OPERATOR, "admin": Role.ADMIN}
THROUGH = "let through"
BY_THE_ROUTE = {
    ("GET", "/api/v1/auth/me", "gateway"): 403,
    ("GET", "/api/v1/files/{}/download", "nobody"): 401,
    ("GET", "/api/v1/files/{}/download", "expired"): 401,
}
"""Let through, and refused by the route itself: `me` is a user's or a key's owner's (platform.md,
0.4); a download without a signature needs credentials (6)."""


def expected_of(endpoint: tuple[str, str], known: dict[tuple[str, str], Expected]) -> Expected:
    return OWN[endpoint][0] if endpoint in OWN else known[endpoint]


def verdict(endpoint: tuple[str, str], expected: Expected, kind: str, mode: AuthMode) -> Any:
    """What the contract wants to be answered: 401, 403 or anything but those two."""
    method, path = endpoint
    if expected.who == "public":
        return THROUGH
    if kind == "nobody":
        anonymous = mode is AuthMode.LOCAL and expected.anonymous_local
        return THROUGH if anonymous or expected.optional else 401
    if kind == "expired":
        return THROUGH if expected.optional and method != "WS" else 401
    principal = CALLERS[kind]
    if principal.limited is not None and not path.startswith("/api/v1/auth/"):
        return 403
    if expected.only_credentials:
        return THROUGH
    if expected.workers:
        may = kind in {"workers key", "worker node"} or principal.has(Role.OPERATOR)
        return THROUGH if may else 403
    if expected.person:
        return THROUGH if principal.kind is PrincipalKind.USER else 403
    reads_only = kind == "reading key" and method not in {"GET", "WS"}
    return THROUGH if principal.has(_ROLES[expected.who]) and not reads_only else 403


def headers_of(kind: str) -> dict[str, str]:
    if kind == "nobody":
        return {}
    return {"authorization": "Bearer long-gone"} if kind == "expired" else bearer(kind)


async def ask(client: httpx.AsyncClient, method: str, path: str, kind: str) -> Any:
    headers = {"content-type": "application/json", **headers_of(kind)}
    body = b"" if method in {"GET", "DELETE"} else b"{"
    answer = await client.request(method, path, headers=headers, content=body)
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
    return answer.status_code if answer.status_code in {401, 403} else THROUGH


async def connect(app: FastAPI, path: str, kind: str) -> Any:
    """Open a socket as `kind`; a refused one is accepted and closed, 4001 or 4003."""
    told: list[dict[str, Any]] = []
    sent = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]

    async def receive() -> Any:
        return sent.pop(0) if sent else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        told.append(message)

    pairs = {"host": "127.0.0.1:8000", **headers_of(kind)}
    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "ws",
        "headers": [(name.encode(), value.encode()) for name, value in pairs.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "subprotocols": [],
        "state": {},
        "extensions": {},
    }
    await app(scope, receive, send)
    assert told[0]["type"] == "websocket.accept"
    codes = {4001: 401, 4003: 403}
    return codes.get(told[1].get("code", 0), THROUGH) if len(told) > 1 else THROUGH


def a_path(template: str) -> str:
    """A path of that shape that names nothing there is; chats are named by UUIDs."""
    if template == "/ws/{}":
        return f"/ws/{uuid.UUID(int=999999999)}"
    return re.sub(r"\{[^}]*\}", "999999999", template)


@pytest.fixture(scope="module")
async def core(postgres_url: str) -> AsyncIterator[Core]:
    settings = Settings(database_url=postgres_url, redis_url=None)
    core = await build_core(settings, engine=FakeEngine(), name="access under test")
    core.authenticator = FakeAuthenticator()
    yield core
    await core.close()


def settings_of(mode: AuthMode) -> Settings:
    return Settings(auth_mode=mode, redis_url=None, jwt_secret=SecretStr("s" * 32))


async def compare(
    app: FastAPI,
    endpoints: Iterable[tuple[str, str]],
    known: dict[tuple[str, str], Expected],
    mode: AuthMode,
    by_the_route: Mapping[tuple[str, str, str], int] | None = None,
) -> None:
    wrong: list[tuple[object, ...]] = []
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        for endpoint in sorted(endpoints):
            method, path = endpoint
            for kind in KINDS:
                wanted = verdict(endpoint, expected_of(endpoint, known), kind, mode)
                wanted = (by_the_route or {}).get((method, path, kind), wanted)
                if method == "WS":
                    got = await connect(app, a_path(path), kind)
                else:
                    got = await ask(client, method, a_path(path), kind)
                if got != wanted:
                    wrong.append((*endpoint, kind, f"wanted {wanted}, got {got}"))
    assert not wrong


def offered(app: FastAPI) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for route in app.router.routes:
        if isinstance(route, Route):
            methods = (route.methods or set()) - {"HEAD"}
            found |= {(method, plain(route.path)) for method in methods}
        elif isinstance(route, WebSocketRoute):
            is_fallback = route.path == "/ws/{channel:path}"
            found.add(("WS", FALLBACK if is_fallback else plain(route.path)))
    return found


@pytest.mark.parametrize("mode", AuthMode)
async def test_every_route_admits_whom_the_contract_names(core, clean_database, mode):
    app = create_app(settings_of(mode), core, limiter=Uncounted())
    known = expectations()
    routes = offered(app)
    assert len(routes) > 40
    unknown = {route for route in routes if route not in known and route not in OWN}
    assert not unknown, "the contract does not know these: say in OWN who may call, and why"
    async with app.router.lifespan_context(app):
        await compare(app, routes, known, mode, BY_THE_ROUTE)


@pytest.mark.parametrize("mode", AuthMode)
async def test_every_endpoint_owed_will_admit_whom_the_contract_names(core, mode):
    """The same for what is not built yet: stand-ins behind the same guard."""
    known = expectations()
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    for method, path in sorted(known, key=lambda one: one[1].count("{}")):
        app.router.routes.append(stand_in(method, path))
    install(app, DIALECTS)
    app.state.core = core
    Admission(settings_of(mode)).protect(app.router)
    assert len(known) > 220
    await compare(app, known, known, mode)


def stand_in(method: str, path: str) -> APIRoute | APIWebSocketRoute:
    named = path
    for number in range(path.count("{}")):
        named = named.replace("{}", f"{{p{number}}}", 1)

    async def answer() -> None:
        return None

    async def accept(websocket: WebSocket) -> None:
        await websocket.accept()

    if method == "WS":
        return APIWebSocketRoute(named, accept)
    return APIRoute(named, answer, methods=[method])


def test_the_sources_were_understood():
    known = expectations()
    assert known["GET", "/agents"] == Expected("viewer", anonymous_local=True)
    assert known["DELETE", "/agents/{}"] == Expected("operator", anonymous_local=True)
    assert known["GET", "/settings"] == Expected("admin", anonymous_local=True)
    assert known["POST", "/api/agents/seed"] == Expected("admin", anonymous_local=True)
    assert known["GET", "/api/v1/agents"] == Expected("viewer")
    assert known["POST", "/api/v1/workflows/{}/run"] == Expected("operator")
    assert known["PATCH", "/api/v1/messages/{}/read"] == Expected("viewer")
    assert known["PUT", "/api/v1/cost/budget"] == Expected("admin")
    assert known["PUT", "/api/permissions"] == Expected("admin")
    assert known["GET", "/api/permissions"] == Expected("viewer")
    assert set(SETTLED) <= set(known)
    assert {method for method, _ in known} == {"GET", "POST", "PUT", "PATCH", "DELETE", "WS"}


def test_no_rule_is_there_for_a_path_that_nobody_owes():
    known = {(method, plain(path)) for method, path in expectations()}
    ours = {(method, path if path == FALLBACK else plain(path)) for method, path in TABLE}
    assert not ours - known - set(OWN)
    assert not known - ours


def test_a_route_without_a_rule_keeps_the_application_from_being_built(monkeypatch):
    router = CheckedRouter()

    @router.get("/agents/of/nobody")
    async def forgotten() -> None:
        """A route that somebody added and said nothing of."""

    monkeypatch.setattr("api.app.ROUTERS", (*ROUTERS, router))
    with pytest.raises(NoRule, match="/agents/of/nobody"):
        create_app(settings_of(AuthMode.LOCAL))


def test_a_rule_is_of_one_method():
    assert rule_for("GET", "/agents").who == "read"
    with pytest.raises(NoRule):
        rule_for("PUT", "/agents")


def test_the_names_of_callers_cover_every_kind_the_guard_meets():
    kinds = {principal.kind for principal in CALLERS.values()}
    never_shown = {PrincipalKind.LOCAL, PrincipalKind.TEMPORAL, PrincipalKind.SYSTEM}
    assert kinds == set(PrincipalKind) - never_shown

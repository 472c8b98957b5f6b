"""GET /api/v1/admin/audit, and that every write leaves one entry that names its caller."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import text
from starlette.types import ASGIApp, Receive, Scope, Send

from conclave.auditing import AuditLog
from conclave.caller import Caller, current_caller
from conclave.container import Core, build_core
from conclave.crypto import new_key
from conclave.db import Database
from conclave.settings import Settings
from schema.domain.identity import Principal, PrincipalKind, Role
from schema.tables.base import Base
from tests.api.conftest import BASE_URL
from tests.fakes.engine import FakeEngine

AUDIT = "/api/v1/admin/audit"
CALLER = Caller(
    principal=Principal(kind=PrincipalKind.USER, id=42, user_id=42, role=Role.ADMIN),
    ip_address="203.0.113.9",
    request_id="request-7",
)
KEY = "sk-secret-provider-key-1234"


class CalledBy:
    """Sets the caller for each request, as the access layer does."""

    def __init__(self, app: ASGIApp, caller: Caller) -> None:
        self._app = app
        self._caller = caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = current_caller.set(self._caller)
        try:
            await self._app({**scope, "principal": self._caller.principal}, receive, send)
        finally:
            current_caller.reset(token)


@pytest.fixture
async def caller(
    client: httpx.AsyncClient,
    app: FastAPI,
    core: Core,
    api_settings: Settings,
    shared_engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[httpx.AsyncClient]:
    """`CALLER`, who may store provider keys too."""
    settings = api_settings.model_copy(update={"encryption_key": _secret(new_key())})
    other = await build_core(settings, engine=shared_engine)
    monkeypatch.setattr(core, "providers", other.providers)
    transport = httpx.ASGITransport(app=CalledBy(app, CALLER))
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as http:
        yield http
    await other.close()


def _secret(value: str) -> Any:
    return Settings.model_validate({"encryption_key": value}).encryption_key


async def made(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await http.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def an_agent(http: httpx.AsyncClient) -> str:
    agent = await made(
        http, "/agents", {"name": "Ada", "provider": "openai", "model": "gpt-4o-mini"}
    )
    return str(agent["id"])


async def a_circle(http: httpx.AsyncClient, *moves: str) -> str:
    await made(http, "/circles", {"name": "tea", "display_name": "Tea"})
    for move in moves:
        assert (await http.post(f"/circles/tea/{move}")).status_code == 200
    return "tea"


async def a_started_circle(http: httpx.AsyncClient) -> str:
    return await a_circle(http, "start")


async def a_paused_circle(http: httpx.AsyncClient) -> str:
    return await a_circle(http, "start", "pause")


async def a_member(http: httpx.AsyncClient) -> str:
    await a_circle(http)
    agent = await an_agent(http)
    await made(http, "/circles/tea/agents", {"agent_id": int(agent)})
    return agent


async def a_talk(http: httpx.AsyncClient) -> str:
    agent = await an_agent(http)
    body = {"topic": "kolibri", "agent_ids": [int(agent)], "auto_run": False}
    return str((await made(http, "/conversations", body))["id"])


async def a_memory(http: httpx.AsyncClient) -> str:
    return str((await made(http, "/memory", {"key": "kolibri", "value": "kolibri"}))["id"])


AGENT = {"name": "Bob", "provider": "openai", "model": "gpt-4o-mini"}
TALK = {"topic": "kolibri", "initial_prompt": "kolibri", "auto_run": True}
WRITES: dict[tuple[str, str], tuple[Any, dict[str, Any] | None, str]] = {
    ("POST", "/agents"): (None, AGENT, "agent_created"),
    ("PATCH", "/agents/{}"): (an_agent, {"model": "gpt-4o"}, "agent_updated"),
    ("DELETE", "/agents/{}"): (an_agent, None, "agent_deleted"),
    ("POST", "/agents/{}/sessions"): (an_agent, {}, "conversation_created"),
    ("POST", "/circles"): (None, {"name": "tea", "display_name": "Tea"}, "circle_created"),
    ("PATCH", "/circles/{}"): (a_circle, {"display_name": "Coffee"}, "circle_updated"),
    ("DELETE", "/circles/{}"): (a_circle, None, "circle_deleted"),
    ("POST", "/circles/{}/start"): (a_circle, None, "circle_started"),
    ("POST", "/circles/{}/pause"): (a_started_circle, None, "circle_paused"),
    ("POST", "/circles/{}/resume"): (a_paused_circle, None, "circle_resumed"),
    ("POST", "/circles/{}/archive"): (a_circle, None, "circle_archived"),
    ("POST", "/circles/tea/agents"): (a_circle, {}, "circle_member_added"),
    ("DELETE", "/circles/tea/agents/{}"): (a_member, None, "circle_member_removed"),
    ("POST", "/conversations"): (an_agent, TALK, "conversation_created"),
    ("POST", "/conversations/{}/end"): (a_talk, None, "conversation_ended"),
    ("POST", "/memory"): (None, {"key": "kolibri", "value": "kolibri"}, "memory_created"),
    ("DELETE", "/memory/{}"): (a_memory, None, "memory_deleted"),
    ("PATCH", "/settings/providers/openai"): (
        None,
        {"api_key": KEY, "default_model": "gpt-4o"},
        "provider_updated",
    ),
    ("PATCH", "/settings/application"): (None, {"debug": True}, "settings_updated"),
}
UNRECORDED = {
    ("POST", "/conversations/{}/advance"): "stands in the inbox and the transcript",
    ("POST", "/settings/providers/{}/test"): "changes nothing",
    ("POST", "/codec/encode"): "changes nothing",
    ("POST", "/codec/decode"): "changes nothing",
}


def test_every_route_that_writes_is_in_the_table(app: FastAPI):
    routes = {
        (method, re.sub(r"\{[^}]*\}", "{}", route.path))
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods or set()
        if method != "GET"
    }
    mine = {path for path in routes if not path[1].startswith("/api/v1/")}
    told = {
        (method, path.replace("/tea/", "/{}/").replace("/openai", "/{}")) for method, path in WRITES
    }
    assert mine == told | set(UNRECORDED)


async def prepared(
    http: httpx.AsyncClient, write: tuple[str, str]
) -> tuple[str, dict[str, Any] | None]:
    """Make what a write needs; return its path and body."""
    _, path = write
    prepare, body, _ = WRITES[write]
    target = "" if prepare is None else await prepare(http)
    if write == ("POST", "/circles/tea/agents"):
        body = {"agent_id": int(await an_agent(http))}
    if write == ("POST", "/conversations"):
        body = {**(body or {}), "agent_ids": [int(target)]}
    return path.format(target), body


@pytest.mark.parametrize("write", WRITES, ids=" ".join)
async def test_a_write_leaves_one_entry_that_names_the_caller(
    client: httpx.AsyncClient, caller: httpx.AsyncClient, write: tuple[str, str]
):
    path, body = await prepared(client, write)
    before = (await client.get(AUDIT)).json()
    answer = await caller.request(write[0], path, json=body)
    assert answer.is_success, answer.text

    after = (await client.get(AUDIT)).json()
    assert len(after) == len(before) + 1
    entry = after[0]
    assert entry["action"] == WRITES[write][2]
    assert (entry["actor_type"], entry["actor_id"]) == ("user", 42)
    assert entry["ip_address"] == CALLER.ip_address
    assert entry["request_id"] == CALLER.request_id
    assert entry["resource_id"]
    assert entry["created_at"].endswith("Z")
    assert "kolibri" not in str(entry)
    assert KEY not in str(entry)


@pytest.mark.parametrize("write", WRITES, ids=" ".join)
async def test_a_write_whose_entry_cannot_be_stored_does_not_happen(
    client: httpx.AsyncClient,
    caller: httpx.AsyncClient,
    app: FastAPI,
    clean_database: Database,
    write: tuple[str, str],
):
    path, body = await prepared(client, write)
    before = await everything(clean_database)
    unstorable = CALLER.model_copy(update={"request_id": "x" * 129})
    transport = httpx.ASGITransport(app=CalledBy(app, unstorable))
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as http:
        answer = await http.request(write[0], path, json=body)
    assert answer.status_code == 500
    assert await everything(clean_database) == before


async def everything(db: Database) -> dict[str, object]:
    """Return every row of every table."""
    async with db.transaction() as tx:
        return {
            table.name: await tx.conn.scalar(
                text(f"SELECT json_agg(t ORDER BY t::text) FROM {table.name} AS t")
            )
            for table in Base.metadata.sorted_tables
        }


async def test_a_refused_write_leaves_no_entry(client: httpx.AsyncClient):
    await a_circle(client)
    assert (await client.post("/circles/tea/resume")).status_code == 409
    assert (await client.post("/circles", json={"name": "tea", "display_name": "T"})).is_error
    assert (await client.delete("/agents/99")).status_code == 404
    assert [entry["action"] for entry in (await client.get(AUDIT)).json()] == ["circle_created"]


async def test_a_conversation_that_stores_nothing_leaves_no_entry(client: httpx.AsyncClient):
    body = {"topic": "t", "agent_ids": [99], "auto_run": False}
    assert (await client.post("/conversations", json=body)).is_error
    assert (await client.get(AUDIT)).json() == []


async def test_a_key_is_told_as_given_and_nothing_more(caller: httpx.AsyncClient):
    path = "/settings/providers/openai"
    await caller.patch(path, json={"api_key": KEY, "base_url": None})
    await caller.patch(path, json={"api_key": None, "default_model": "gpt-4o"})
    second, first = (await caller.get(AUDIT)).json()
    assert first["changes"] == {"api_key": {"before": None, "after": "***"}}
    assert second["changes"] == {
        "api_key": {"before": "***", "after": None},
        "default_model": {"before": None, "after": "gpt-4o"},
    }


async def test_an_update_tells_what_was_and_what_is(client: httpx.AsyncClient):
    agent = await an_agent(client)
    await client.patch(f"/agents/{agent}", json={"model": "gpt-4o", "background": {"a": "b" * 600}})
    [entry, _] = (await client.get(AUDIT)).json()
    assert entry["resource_type"] == "agent"
    assert entry["resource_id"] == agent
    assert entry["changes"] == {
        "background": {"before": {}, "after": "(609 characters of JSON)"},
        "model": {"before": "gpt-4o-mini", "after": "gpt-4o"},
    }


async def filled(db: Database) -> None:
    """Entries 1 to 6: a1 b2 a3 b1 a2 b3, ids in that order."""
    log = AuditLog()
    for action, actor in (("a", 1), ("b", 2), ("a", 3), ("b", 1), ("a", 2), ("b", 3)):
        async with db.transaction() as tx:
            by = Principal(kind=PrincipalKind.API_KEY, id=actor, role=Role.VIEWER)
            await log.record(tx, f"tea_{action}", f"type_{action}", actor, principal=by)


@pytest.mark.parametrize(
    ("query", "ids", "total"),
    [
        ({}, [6, 5, 4, 3, 2, 1], "6"),
        ({"limit": 2}, [6, 5], "6"),
        ({"limit": 2, "offset": 3}, [3, 2], "6"),
        ({"limit": 2, "skip": 5}, [1], "6"),
        ({"action": "tea_a"}, [5, 3, 1], "3"),
        ({"resource_type": "type_b"}, [6, 4, 2], "3"),
        ({"actor_id": 3}, [6, 3], "2"),
        ({"actor_id": "3", "action": "tea_b", "limit": 1}, [6], "1"),
        ({"action": "tea"}, [], "0"),
        ({"since": "2000-01-01"}, [6, 5, 4, 3, 2, 1], "6"),
        ({"since": "2199-01-01T00:00:00+02:00"}, [], "0"),
        ({"until": "2000-01-01T00:00:00"}, [], "0"),
        ({"until": "2199-01-01T00:00:00Z", "limit": 1}, [6], "6"),
    ],
)
async def test_filters_and_paging(
    client: httpx.AsyncClient,
    clean_database: Database,
    query: dict[str, Any],
    ids: list[int],
    total: str,
):
    await filled(clean_database)
    answer = await client.get(AUDIT, params=query)
    assert [entry["id"] for entry in answer.json()] == ids
    assert answer.headers["X-Total-Count"] == total


async def test_since_counts_in_and_until_does_not(
    client: httpx.AsyncClient, clean_database: Database
):
    await filled(clean_database)
    entries = (await client.get(AUDIT)).json()
    query = {"since": entries[3]["created_at"], "until": entries[1]["created_at"]}
    assert (await client.get(AUDIT, params=query)).json() == entries[2:4]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 501},
        {"offset": -1},
        {"actor_id": "x"},
        {"actor_id": 0},
        {"actor_id": 2**63},
        {"since": "yesterday"},
        {"until": ""},
        {"since": "0001-01-01T00:00:00+14:00"},
        {"action": "x" * 65},
        {"action": "a\x00b"},
    ],
)
async def test_a_query_that_does_not_fit_is_refused(
    client: httpx.AsyncClient, query: dict[str, Any]
):
    answer = await client.get(AUDIT, params=query)
    assert answer.status_code == 422
    assert answer.json()["error_code"].startswith("VAL_")
    assert answer.json()["details"]["errors"]

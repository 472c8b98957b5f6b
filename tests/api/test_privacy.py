"""What belongs to one user is not there for another: every route that takes an id."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.routing import APIRoute, APIWebSocketRoute
from sqlalchemy import select

from api.access import Who, rule_for
from schema.tables.events import EventRow
from schema.tables.memories import MemoryRow
from tests.api.gathering.test_bad_input import stored_rows
from tests.fakes.callers import CALLERS, FakeAuthenticator, api_key, bearer
from tests.fakes.callers import token_of as token
from tests.fakes.engine import FakeEngine

OWNER, OTHER = "operator", "other operator"


@pytest.fixture
async def session(outside) -> Any:
    """A session of OWNER with an agent, with one memory of it."""
    made = await outside.post("/agents", json={"name": "Sophie"}, headers=bearer(OWNER))
    agent_id = made.json()["id"]
    opened = await outside.post(f"/agents/{agent_id}/sessions", headers=bearer(OWNER))
    assert opened.status_code == 201, opened.text
    about = {"scope": "conversation", "scope_id": opened.json()["id"], "agent_id": agent_id}
    memory = {"key": "k", "value": "private"} | about
    kept = await outside.post("/memory", json=memory, headers=bearer(OWNER))
    assert kept.status_code == 201, kept.text
    return {"id": opened.json()["id"], "agent_id": agent_id, "memory": kept.json()}


async def answers(client: Any, session: Any, caller: str) -> dict[str, int]:
    """Ask for the private rows by every route that takes the id of one."""
    conversation, memory = f"/conversations/{session['id']}", f"/memory/{session['memory']['id']}"
    asked = {
        "GET /conversations/{conversation_id}": ("GET", conversation, None),
        "GET /conversations/{conversation_id}/messages": ("GET", f"{conversation}/messages", None),
        "POST /conversations/{conversation_id}/advance": (
            "POST",
            f"{conversation}/advance?wait=false",
            {"prompt": "hello"},
        ),
        "POST /conversations/{conversation_id}/end": ("POST", f"{conversation}/end", None),
        "DELETE /memory/{memory_id}": ("DELETE", memory, None),
    }
    found: dict[str, int] = {}
    for name, (method, path, body) in asked.items():
        answer = await client.request(method, path, json=body, headers=bearer(caller))
        found[name] = answer.status_code
    return found


async def test_another_users_session_is_not_there(outside, session, database):
    before = await stored_rows(database)
    assert set((await answers(outside, session, OTHER)).values()) == {404}
    assert await stored_rows(database) == before
    conversation = await outside.get(f"/conversations/{session['id']}", headers=bearer(OWNER))
    assert conversation.json()["status"] == "pending"


async def test_a_viewer_does_not_learn_that_it_is_there(outside, session):
    hidden = await outside.get(f"/conversations/{session['id']}", headers=bearer("viewer"))
    missing = await outside.get("/conversations/987", headers=bearer("viewer"))
    told = hidden.text.replace(str(session["id"]), "N"), missing.text.replace("987", "N")
    assert hidden.status_code == missing.status_code == 404
    assert told[0] == told[1]


@pytest.mark.parametrize("caller", [OWNER, "admin", "gateway"])
async def test_its_owner_and_admins_find_it(outside, session, caller):
    assert 404 not in (await answers(outside, session, caller)).values()


async def test_an_api_key_acts_as_its_owner(outside, session, authenticator: FakeAuthenticator):
    owner_id = CALLERS[OWNER].user_id
    assert owner_id is not None
    key = api_key(owner_id, CALLERS[OWNER].role, *CALLERS["writing key"].scopes or ())
    authenticator.known["key of the owner"] = key
    path = f"/conversations/{session['id']}"
    found = await outside.get(path, headers={"x-api-key": "key of the owner"})
    assert found.status_code == 200
    others = {"x-api-key": token("writing key")}
    assert (await outside.get(path, headers=others)).status_code == 404


async def test_lists_leave_out_what_is_private_to_others(outside, session):
    for caller, sees in ((OWNER, 1), (OTHER, 0), ("viewer", 0), ("admin", 1)):
        headers = bearer(caller)
        agent = f"/agents/{session['agent_id']}"
        for path in (f"{agent}/sessions", f"{agent}/memories"):
            answer = await outside.get(path, headers=headers)
            assert answer.status_code == 200
            assert (len(answer.json()), answer.headers["x-total-count"]) == (sees, str(sees))
        assert (await outside.get("/conversations", headers=headers)).json() == []


async def test_nothing_is_remembered_of_another_users_session(outside, session, database):
    memory = {"key": "k", "value": "v", "scope": "conversation", "scope_id": session["id"]}
    refused = await outside.post("/memory", json=memory, headers=bearer(OTHER))
    missing = await outside.post("/memory", json=memory | {"scope_id": 987}, headers=bearer(OTHER))
    assert refused.status_code == missing.status_code == 404
    for caller in (OWNER, "admin"):
        answer = await outside.post("/memory", json=memory, headers=bearer(caller))
        assert answer.status_code == 201
    async with database.transaction() as tx:
        assert len((await tx.conn.execute(select(MemoryRow.id))).all()) == 3


async def test_what_is_remembered_of_a_shared_conversation_is_shared(outside, session):
    body = {"topic": "t", "agent_ids": [session["agent_id"]], "auto_run": False}
    shared = await outside.post("/conversations", json=body, headers=bearer(OWNER))
    memory = {"key": "k", "value": "v", "scope": "conversation", "scope_id": shared.json()["id"]}
    memory["agent_id"] = session["agent_id"]
    kept = await outside.post("/memory", json=memory, headers=bearer(OTHER))
    assert kept.status_code == 201
    path = f"/agents/{session['agent_id']}/memories"
    assert (await outside.get(path, headers=bearer("viewer"))).json() == [kept.json()]
    assert len((await outside.get(path, headers=bearer(OWNER))).json()) == 2


async def test_events_of_what_is_private_name_their_owner(outside, session, database):
    path = f"/memory/{session['memory']['id']}"
    assert (await outside.delete(path, headers=bearer(OWNER))).status_code == 204
    async with database.transaction() as tx:
        rows = await tx.conn.execute(select(EventRow.type, EventRow.owner).order_by(EventRow.id))
    owner = CALLERS[OWNER].key
    assert [tuple(row) for row in rows] == [
        ("agent.created", None),
        ("conversation.created", owner),
        ("memory.created", owner),
        ("memory.deleted", owner),
    ]


SHARED = {
    *("agent_id", "name", "provider", "project_id", "channel"),
    *("task_id", "workflow_id", "run_id", "trigger_id", "slug"),
}
"""Agents, circles, providers, profiles, projects and work are everybody's; so is what is no
channel, and a webhook's address is known by its signature."""
ELSEWHERE = {
    "GET /conversations/{conversation_id}/events",
    "WS /ws/conversations/{conversation_id:int}",
    "DELETE /api/v1/security/api-keys/{key_id}",
    "PUT /api/v1/notifications/{notification_id}/read",
    "GET /api/v1/files/{file_id}",
    "GET /api/v1/files/{file_id}/download",
    "GET /api/v1/files/{file_id}/url",
    "DELETE /api/v1/files/{file_id}",
}
"""Streams and sockets are tested over a real server, in `test_revocation`; keys and notifications
belong to real accounts, in `platform/test_api_keys` and `platform/test_notifications`; files that
chats handed in are tested in `platform/test_files`.
"""
OF_CHATS = {
    "WS /ws/{chat_id:uuid}",
    "GET /api/chats/{chat_id}",
    "DELETE /api/chats/{chat_id}",
    "GET /api/chats/{chat_id}/context",
    "POST /api/chats/{chat_id}/compact",
    "GET /api/chats/{chat_id}/profile",
    "PUT /api/chats/{chat_id}/profile",
    "GET /api/chats/{chat_id}/active-profile",
    "POST /api/chats/{chat_id}/active-profile",
    "POST /api/chats/{chat_id}/cancel",
    "POST /api/chats/{chat_id}/panic",
    "GET /api/v1/approvals/{approval_id}",
    "POST /api/v1/approvals/{approval_id}/approve",
    "POST /api/v1/approvals/{approval_id}/reject",
}
"""Named by UUIDs, or asked for by a turn: `gateway/test_chats`, `gateway/test_websocket` and
`platform/test_approvals`.
"""


async def test_every_route_that_takes_the_id_of_something_private_is_tried(
    app, outside, session, engine: FakeEngine
):
    tried = set(await answers(outside, session, OTHER)) | ELSEWHERE | OF_CHATS
    for route in app.routes:
        if isinstance(route, APIRoute):
            methods = route.methods or set[str]()
        elif isinstance(route, APIWebSocketRoute):
            methods = {"WS"}
        else:
            continue
        for method in methods if set(route.param_convertors) - SHARED else ():
            if rule_for(method, route.path).who is not Who.ADMIN:
                assert f"{method} {route.path}" in tried

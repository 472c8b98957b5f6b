"""/api/chats."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from conclave.agents.commands import BusyPolicy
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.tables.audit import AuditEntryRow
from schema.tables.conversations import ConversationRow
from schema.tables.inbox import InboxRow
from tests.api.gateway.conftest import Desk

NEVER = str(uuid4())


async def rows(desk: Desk, row: Any) -> list[Any]:
    async with desk.core.db.transaction() as tx:
        return list((await tx.conn.execute(select(row.__table__))).mappings())


async def test_a_chat_without_a_body_is_the_assistants(desk: Desk):
    first, second = await asyncio.gather(
        desk.ok("POST", "/api/chats"), desk.ok("POST", "/api/chats", "operator")
    )
    assert first["agent_id"] == second["agent_id"]
    assert UUID(first["chat_id"]) != UUID(second["chat_id"])
    assert first.keys() == {"chat_id", "title", "agent_id", "profile", "created_at"}
    assert (first["title"], first["profile"]) == ("New chat", None)
    agent = await desk.core.agents.get(first["agent_id"])
    assert (agent.slug, agent.name, agent.provider) == ("assistant", "Assistant", "anthropic")
    assert (agent.config.model_extra or {})["system_prompt"]
    [row, _] = await rows(desk, ConversationRow)
    assert (row["kind"], row["turn_strategy"], row["auto_run"]) == ("chat", "round_robin", False)
    assert desk.engine.started == []


async def test_the_assistant_takes_the_platforms_default_model_and_is_made_again(desk: Desk):
    await desk.core.configuration.set("llm", "default_provider", "mistral")
    await desk.core.configuration.set("llm", "default_model", "large")
    first = (await desk.ok("POST", "/api/chats"))["agent_id"]
    agent = await desk.core.agents.get(first)
    assert (agent.provider, agent.model) == ("mistral", "large")
    await desk.core.agents.delete(first, BusyPolicy.REFUSE)
    assert (await desk.ok("POST", "/api/chats"))["agent_id"] != first


async def test_what_a_chat_is_made_of(desk: Desk):
    agent_id = await desk.agent()
    profile = {"provider": "openai", "model": "m"}
    await desk.ok("POST", "/api/profiles", name="fast", profile=profile)
    project = await desk.ok(
        "POST", "/api/projects", name="p", source="github", source_project_id="1"
    )
    made = await desk.ok(
        "POST", "/api/chats", agent_id=agent_id, profile="fast", title=" tea ",
        project_id=project["id"],
    )  # fmt: skip
    assert (made["agent_id"], made["profile"], made["title"]) == (agent_id, "fast", "tea")
    [row] = await rows(desk, ConversationRow)
    assert row["project_id"] == project["id"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"agent_id": 999}, 404), ({"profile": "none"}, 404), ({"project_id": 999}, 404),
        ({"agent_id": "x"}, 422), ({"agent_id": 2**63}, 422), ({"agent_id": 0}, 422),
        ({"profile": ""}, 422), ({"title": "x" * 256}, 422), ({"title": "a\x00b"}, 422),
        ({"project_id": -1}, 422), ({"title": "  "}, 422),
    ],
)  # fmt: skip
async def test_what_does_not_exist_or_fit_makes_no_chat(desk: Desk, body: Any, status: int):
    answer = await desk.call("POST", "/api/chats", **body)
    assert answer.status_code == status
    assert answer.json().keys() == {"detail"}
    assert await rows(desk, ConversationRow) == []


async def test_an_offline_agent_has_no_chats(desk: Desk):
    agent_id = await desk.agent()
    await desk.core.agents.delete(agent_id, BusyPolicy.REFUSE)
    assert (await desk.call("POST", "/api/chats", agent_id=agent_id)).status_code == 404


async def test_the_list_is_ones_own_and_newest_first(desk: Desk):
    mine = [(await desk.ok("POST", "/api/chats", "operator"))["chat_id"] for _ in range(3)]
    other = (await desk.ok("POST", "/api/chats", "other operator"))["chat_id"]
    listed = await desk.call("GET", "/api/chats", "operator")
    chats = listed.json()["chats"]
    assert [chat["chat_id"] for chat in chats] == mine[::-1]
    assert listed.headers["x-total-count"] == "3"
    assert chats[0].keys() == {
        "chat_id", "title", "agent_id", "profile", "message_count", "created_at", "updated_at",
    }  # fmt: skip
    piece = (await desk.ok("GET", "/api/chats?limit=1&offset=1", "operator"))["chats"]
    assert [chat["chat_id"] for chat in piece] == [mine[1]]
    everybodys = (await desk.ok("GET", "/api/chats", "gateway"))["chats"]
    assert [chat["chat_id"] for chat in everybodys] == [other, *mine[::-1]]
    assert (await desk.call("GET", "/api/chats?limit=0")).status_code == 422
    assert (await desk.call("GET", "/api/chats?offset=-1")).status_code == 422


async def test_another_users_chat_is_not_there(desk: Desk):
    chat = (await desk.ok("POST", "/api/chats", "operator"))["chat_id"]
    asked: list[tuple[str, str, Any]] = [
        ("GET", "", {}), ("GET", "/context", {}), ("POST", "/compact", {}),
        ("GET", "/profile", {}), ("PUT", "/profile", {"profile_name": "x"}),
        ("GET", "/active-profile", {}), ("POST", "/active-profile", {"profile_name": "x"}),
        ("POST", "/cancel", {}), ("POST", "/panic", {}), ("DELETE", "", {}),
    ]  # fmt: skip
    for method, path, body in asked:
        hidden = await desk.call(method, f"/api/chats/{chat}{path}", "other operator", **body)
        missing = await desk.call(method, f"/api/chats/{NEVER}{path}", "other operator", **body)
        assert hidden.status_code == missing.status_code == 404, (method, path)
        assert hidden.text.replace(chat, "N") == missing.text.replace(NEVER, "N")
        assert (await desk.call(method, f"/api/chats/x{path}", **body)).status_code == 422
    assert await desk.ok("GET", f"/api/chats/{chat}", "operator")
    assert await desk.ok("GET", f"/api/chats/{chat}", "admin")


async def test_a_chat_that_was_deleted_is_nowhere(desk: Desk):
    made = await desk.ok("POST", "/api/chats", "operator")
    chat = made["chat_id"]
    principal = await desk.core.authenticator.authenticate("token-of-operator")
    await desk.core.chats.send(UUID(chat), "hello", None, principal)
    assert (await desk.call("DELETE", f"/api/chats/{chat}", "operator")).status_code == 204
    assert (await desk.call("DELETE", f"/api/chats/{chat}", "operator")).status_code == 404
    assert (await desk.call("GET", f"/api/chats/{chat}", "operator")).status_code == 404
    assert (await desk.ok("GET", "/api/chats", "admin"))["chats"] == []
    [row] = await rows(desk, ConversationRow)
    assert row["final"]
    hidden = await desk.call("GET", f"/conversations/{row['id']}", "operator")
    assert hidden.status_code == 404
    [waiting] = await rows(desk, InboxRow)
    assert waiting["status"] == "failed"
    actions = [entry["action"] for entry in await rows(desk, AuditEntryRow)]
    assert actions[-1] == "chat_deleted"
    assert "conversation_created" in actions


async def test_the_transcript_shows_what_was_said(desk: Desk):
    chat = (await desk.ok("POST", "/api/chats"))["chat_id"]
    assert await desk.ok("GET", f"/api/chats/{chat}") == {"chat_id": chat, "turns": []}


async def test_a_profile_can_be_switched(desk: Desk):
    chat = (await desk.ok("POST", "/api/chats"))["chat_id"]
    url = f"/api/chats/{chat}/profile"
    assert await desk.ok("GET", url) == {"profile_name": None}
    for name in ("fast", "slow"):
        profile = {"provider": "openai", "model": name}
        await desk.ok("POST", "/api/profiles", name=name, profile=profile)
    await desk.ok("PUT", "/api/profiles/default", profile_name="slow")
    assert await desk.ok("GET", url) == {"profile_name": "slow"}
    assert await desk.ok("PUT", url, profile_name="fast") == {"profile_name": "fast"}
    assert await desk.ok("GET", url) == {"profile_name": "fast"}
    older = f"/api/chats/{chat}/active-profile"
    assert await desk.ok("GET", older) == {"profile_name": "fast"}
    assert await desk.ok("POST", older, profile_name="slow") == {"profile_name": "slow"}
    [listed] = (await desk.ok("GET", "/api/chats"))["chats"]
    assert listed["profile"] == "slow"
    assert (await desk.call("PUT", url, profile_name="none")).status_code == 404
    assert (await desk.call("PUT", url, profile_name=5)).status_code == 422


async def test_context_and_compaction(desk: Desk):
    chat = (await desk.ok("POST", "/api/chats"))["chat_id"]
    assert await desk.ok("GET", f"/api/chats/{chat}/context") == {
        "current_tokens": 70, "context_window": 100, "compaction_threshold": 0.75, "turns": 9,
        "model": "m",
    }  # fmt: skip
    assert await desk.ok("POST", f"/api/chats/{chat}/compact") == {
        "tokens_before": 70, "tokens_after": 20, "turns_removed": 5,
    }  # fmt: skip
    desk.compaction.turns = 4
    assert (await desk.call("POST", f"/api/chats/{chat}/compact")).status_code == 400


async def test_cancel_and_panic_where_nothing_runs(desk: Desk):
    chat = (await desk.ok("POST", "/api/chats"))["chat_id"]
    assert await desk.ok("POST", f"/api/chats/{chat}/cancel") == {"cancelled": True}
    assert await desk.ok("POST", f"/api/chats/{chat}/panic") == {"panicked": True}
    nothing = {"panicked": True, "sessions_affected": 0}
    assert await desk.ok("POST", "/api/panic") == nothing


async def test_panic_reaches_what_waits_in_the_callers_chats(desk: Desk):
    core = desk.core
    for caller in ("operator", "other operator"):
        chat = UUID((await desk.ok("POST", "/api/chats", caller))["chat_id"])
        await core.chats.send(chat, "hello", None, LOCAL_PRINCIPAL)
    affected = await desk.ok("POST", "/api/panic", "operator")
    assert affected == {"panicked": True, "sessions_affected": 1}
    statuses = sorted(row["status"] for row in await rows(desk, InboxRow))
    assert statuses == ["failed", "pending"]
    assert (await desk.ok("POST", "/api/panic", "admin"))["sessions_affected"] == 1


@pytest.mark.parametrize("path", ["/api/chats", "/api/profiles", "/api/permissions"])
async def test_nobody_is_let_in_without_a_token(desk: Desk, path: str):
    answer = await desk.http.get(path)
    assert answer.status_code == 401
    assert answer.json().keys() == {"detail"}

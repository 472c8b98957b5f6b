"""A tool call whose worker is stopped in good order: nobody cancelled it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

import worker.main as worker_main
from conclave.agents.commands import CreateAgent
from conclave.container import Core, build_core, temporal_client
from conclave.crypto import new_key
from conclave.settings import Settings
from schema.domain.permissions import PermissionMode
from schema.domain.providers import ProviderName
from tests.conftest import Apart
from tests.fakes.model_server import ModelServer, Received, Reply
from tests.fakes.toolbox import TestTools
from tests.harness.chats import open_chat, say, set_mode, turn_ended
from tests.waiting import until
from worker.main import build_worker
from worker.parts import WorkerParts, build_worker_parts
from workflows.engine import TemporalEngine


@dataclass
class Relay:
    """One worker after the other, over the same record."""

    settings: Settings
    core: Core
    parts: WorkerParts
    model: ModelServer
    tools: TestTools


@pytest.fixture
async def relay(
    apart: Apart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Relay]:
    monkeypatch.setattr(worker_main, "_GRACEFUL_SECONDS", 0.1)
    tools = TestTools(tmp_path / "sent.txt")
    async with ModelServer() as model:
        settings = Settings.model_validate(
            {
                "database_url": apart.postgres_url,
                "temporal_address": apart.temporal_address,
                "encryption_key": new_key(),
            }
        )
        core = await build_core(
            settings,
            engine=TemporalEngine(await temporal_client(settings)),
            name="relay",
            environment={"OPENAI_BASE_URL": model.base_url, "OPENAI_API_KEY": "sk-test-123456"},
            toolbox=tools.registry(),
        )
        parts = build_worker_parts(core)
        await asyncio.to_thread(parts.load)
        await set_mode(core, PermissionMode.AUTONOMOUS)
        yield Relay(settings, core, parts, model, tools)
        await parts.gateway.close()
        await core.close()


@pytest.mark.parametrize(
    ("tool", "status", "told"),
    [
        ("wait", "unknown", "outcome of this call is unknown"),
        ("peek", "done", "peeked"),
        ("glimpse", "done", "seen x"),
    ],
)
async def test_a_call_cut_by_a_stopping_worker_is_not_taken_for_cancelled(
    relay: Relay, tool: str, status: str, told: str
):
    def respond(received: Received) -> Reply:
        if received.body["messages"][-1]["role"] == "tool":
            return Reply(text="done")
        return Reply(tool_calls=[(tool, {"text": "x"})])

    relay.model.responder = respond
    agent = await relay.core.agents.create(
        CreateAgent(name="Ada", provider=ProviderName.OPENAI, model="gpt-4o-mini")
    )
    chat = await open_chat(relay.core, agent.id)
    client = await temporal_client(relay.settings)
    async with build_worker(relay.settings, client, relay.parts):
        await say(relay.core, chat.id)
        await until(relay.tools.entered.is_set, what="the tool to start")
    relay.tools.held.set()
    async with build_worker(relay.settings, client, relay.parts):
        assert await turn_ended(relay.core, chat.id) == "end_turn"
    async with relay.core.db.transaction() as tx:
        rows = await tx.conn.execute(
            text("SELECT status FROM tool_executions WHERE conversation_id = :id"),
            {"id": chat.id},
        )
        assert [row[0] for row in rows] == [status]
    [answer] = [
        one["content"] for one in relay.model.requests[-1].body["messages"] if one["role"] == "tool"
    ]
    assert told in answer

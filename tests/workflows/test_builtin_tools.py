"""A chat that works with the product's own tools: real files, git, sandbox, Temporal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from conclave.agents.commands import CreateAgent
from conclave.conversations.commands import Advance
from schema.domain.conversations import Conversation, ConversationKind
from schema.domain.events import EventType, conversation_stream
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.permissions import PermissionMode
from schema.domain.providers import ProviderName
from schema.tables.conversations import ConversationRow
from schema.tables.tools import ToolExecutionRow
from tests.conftest import Apart
from tests.fakes.model_server import Received, Reply
from tests.harness.stack import MODEL, Stack, running_stack
from tests.waiting import until


@pytest.fixture(scope="module")
async def stack(apart: Apart, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    data: Path = tmp_path_factory.mktemp("data")
    async with running_stack(apart.postgres_url, apart.temporal_address, data_dir=data) as stack:
        await stack.core.permissions.update(PermissionMode.AUTONOMOUS.value, None)
        yield stack
        await stack.core.permissions.update(PermissionMode.INTERACTIVE.value, None)


async def chat(stack: Stack, provider: ProviderName, model: str) -> Conversation:
    agent = await stack.core.agents.create(CreateAgent(name="Ada", provider=provider, model=model))
    session = await stack.core.conversations.open_session(agent.id, None, LOCAL_PRINCIPAL)
    async with stack.core.db.transaction() as tx:
        await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == session.id)
            .values(kind=ConversationKind.CHAT)
        )
    return await stack.get(session.id)


async def asked(stack: Stack, talk: Conversation, text: str) -> list[tuple[str, str, str]]:
    """Say something and return (tool, status, result) of each call of the chat."""
    before = await ended(stack, talk)
    await stack.core.conversations.advance(
        talk.id, Advance(prompt=text), LOCAL_PRINCIPAL, wait=False
    )

    async def over() -> bool:
        return await ended(stack, talk) > before

    await until(over, timeout=40, what="the end of the turn")
    async with stack.core.db.transaction() as tx:
        rows = await tx.conn.execute(
            select(ToolExecutionRow.tool_name, ToolExecutionRow.status, ToolExecutionRow.result)
            .where(ToolExecutionRow.conversation_id == talk.id)
            .order_by(ToolExecutionRow.id)
        )
        return [(row.tool_name, row.status, row.result or "") for row in rows]


async def ended(stack: Stack, talk: Conversation) -> int:
    async with stack.core.db.transaction() as tx:
        found = await stack.core.events.of_stream(tx, conversation_stream(talk.id), after_seq=0)
    return sum(one.type is EventType.TURN_COMPLETED for one in found)


async def test_a_chat_writes_edits_runs_and_commits(stack: Stack):
    talk = await chat(stack, ProviderName.OPENAI, MODEL)
    steps: list[tuple[str, dict[str, str]]] = [
        ("write_file", {"path": "notes.txt", "content": "one\ntwo\n"}),
        ("edit_file", {"path": "notes.txt", "old_string": "two", "new_string": "three"}),
        ("bash", {"command": "cat notes.txt"}),
        ("git_init", {}),
        ("git_add", {}),
        ("git_commit", {"message": "Add notes"}),
        ("git_log", {}),
    ]

    def reply(received: Received) -> Reply:
        done = sum(one["role"] == "tool" for one in received.body["messages"])
        return Reply(tool_calls=[steps[done]]) if done < len(steps) else Reply(text="All done.")

    stack.model.responder = reply
    found = await asked(stack, talk, "Please keep notes.")
    assert [(name, status) for name, status, _ in found] == [(name, "done") for name, _ in steps]
    results = [result for _, _, result in found]
    assert results[2] == "one\nthree\n[exit code 0]"
    assert results[6].endswith("Conclave: Add notes")
    tree = stack.settings.conclave_data_dir / "workspaces" / f"chat-{talk.id}" / "tree"
    assert (tree / "notes.txt").read_text() == "one\nthree\n"
    last = stack.model.requests[-1].body
    assert "workspace of this chat alone" in last["messages"][0]["content"]
    assert {"bash", "http_request", "apply_patch"} <= {
        one["function"]["name"] for one in last["tools"]
    }


async def test_the_demo_provider_can_use_them(stack: Stack):
    talk = await chat(stack, ProviderName.MISTRAL, "no-key-so-demo")
    found = await asked(stack, talk, "Please use write_file.")
    found = await asked(stack, talk, "Now use list_files.")
    assert found == [
        ("write_file", "done", "Made notes.txt (8 bytes)."),
        ("list_files", "done", "notes.txt (8)"),
    ]
    assert (await asked(stack, talk, "And use bash"))[2][1] == "done"

"""Turns that use tools: real PostgreSQL, real Temporal, a scripted model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update
from temporalio.service import RPCError

from conclave.agents.commands import UpdateAgent
from conclave.approvals.commands import ApprovalFilter, Decide
from conclave.approvals.errors import ApprovalNotPending
from conclave.conversations.commands import Advance
from conclave.errors import Invalid
from schema.domain.agents import AgentStatus
from schema.domain.approvals import Approval, ApprovalStatus
from schema.domain.conversations import Conversation, ConversationKind
from schema.domain.events import Event, EventType, conversation_stream
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.permissions import PermissionMode
from schema.payloads.names import approval_workflow_id
from schema.tables.agents import AgentRow
from schema.tables.conversations import ConversationRow
from schema.tables.tools import ToolExecutionRow
from tests.conftest import Apart
from tests.fakes.model_server import Received, Reply
from tests.fakes.toolbox import TestTools
from tests.harness.stack import Stack, running_stack
from tests.waiting import until


@pytest.fixture(scope="module")
async def tools(tmp_path_factory: pytest.TempPathFactory) -> TestTools:
    directory: Path = tmp_path_factory.mktemp("tools")
    return TestTools(directory / "sent.txt")


@pytest.fixture(scope="module")
async def running(apart: Apart, tools: TestTools) -> AsyncIterator[Stack]:
    async with running_stack(
        apart.postgres_url, apart.temporal_address, toolbox=tools.registry()
    ) as stack:
        yield stack


@pytest.fixture
async def stack(running: Stack, tools: TestTools) -> Stack:
    tools.reset()
    running.model.reset()
    running.model.responder = lambda received: Reply(text="nothing more")
    await mode(running, PermissionMode.AUTONOMOUS)
    return running


async def mode(stack: Stack, wanted: PermissionMode, **overrides: str) -> None:
    await stack.core.permissions.update(
        wanted.value, {name: overrides.get(name) for name in stack.core.permissions.tool_names()}
    )


async def chat(stack: Stack) -> Conversation:
    [agent] = await stack.agents("Ada")
    session = await stack.core.conversations.open_session(agent.id, None, LOCAL_PRINCIPAL)
    async with stack.core.db.transaction() as tx:
        await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == session.id)
            .values(kind=ConversationKind.CHAT)
        )
    return await stack.get(session.id)


def script(stack: Stack, *replies: Reply) -> None:
    stack.model.script.extend(replies)


def calls(*named: tuple[str, str]) -> Reply:
    return Reply(tool_calls=[(name, {"text": text}) for name, text in named])


async def say(stack: Stack, talk: Conversation, text: str = "go") -> None:
    await stack.core.conversations.advance(
        talk.id, Advance(prompt=text), LOCAL_PRINCIPAL, wait=False
    )


async def events(stack: Stack, talk: Conversation) -> list[Event]:
    async with stack.core.db.transaction() as tx:
        return await stack.core.events.of_stream(tx, conversation_stream(talk.id), after_seq=0)


async def completed(stack: Stack, talk: Conversation, turns: int = 1) -> list[Event]:
    async def over() -> list[Event] | None:
        found = await events(stack, talk)
        ended = [one for one in found if one.type is EventType.TURN_COMPLETED]
        return found if len(ended) >= turns else None

    found = await until(over, timeout=20, what="the end of the turn")
    assert found is not None
    return found


async def pending(stack: Stack, talk: Conversation, number: int = 1) -> list[Approval]:
    async def there() -> list[Approval] | None:
        wanted = ApprovalFilter(conversation_id=talk.id)
        found, total = await stack.core.approvals.list(wanted, LOCAL_PRINCIPAL, 50, 0)
        return [*found] if total == number else None

    found = await until(there, timeout=20, what="approvals")
    assert found is not None
    return found[::-1]


async def is_running(stack: Stack, approval_id: int) -> bool:
    try:
        await stack.client.get_workflow_handle(approval_workflow_id(approval_id)).describe()
    except RPCError:
        return False
    return True


async def statuses(stack: Stack, talk: Conversation) -> list[str]:
    async with stack.core.db.transaction() as tx:
        rows = await tx.conn.scalars(
            select(ToolExecutionRow.status)
            .where(ToolExecutionRow.conversation_id == talk.id)
            .order_by(ToolExecutionRow.id)
        )
        return list(rows)


def stop_reason(found: list[Event]) -> object:
    return next(one for one in reversed(found) if one.type is EventType.TURN_COMPLETED).data[
        "stop_reason"
    ]


def tool_messages(received: Received) -> list[str]:
    return [one["content"] for one in received.body["messages"] if one["role"] == "tool"]


async def test_the_answers_of_tools_go_back_to_the_model(stack: Stack, tools: TestTools):
    talk = await chat(stack)
    script(stack, calls(("look", "a"), ("keep", "b")), calls(("send", "c")), Reply(text="done"))
    await say(stack, talk)
    found = await completed(stack, talk)
    assert stop_reason(found) == "end_turn"
    assert [name for name, _ in tools.calls][-1] == "send"
    assert tools.lines() == ["c"]
    last = stack.model.requests[-1]
    assert tool_messages(last) == ["seen a", "kept", "sent"]
    assert [tool["function"]["name"] for tool in last.body["tools"]] == [
        "look", "keep", "send", "peek", "glimpse", "wait",
    ]  # fmt: skip
    assert await statuses(stack, talk) == ["done", "done", "done"]


async def test_what_is_asked_for_waits_for_a_yes(stack: Stack, tools: TestTools):
    await mode(stack, PermissionMode.INTERACTIVE)
    talk = await chat(stack)
    script(stack, calls(("send", "hello")), Reply(text="done"))
    await say(stack, talk)
    [approval] = await pending(stack, talk)
    assert tools.calls == []
    assert approval.details == {"tool_name": "send", "tool_args": {"text": "hello"}}
    await stack.core.approvals.decide(approval.id, Decide(approve=True), LOCAL_PRINCIPAL)
    await completed(stack, talk)
    assert tools.lines() == ["hello"]
    with pytest.raises(ApprovalNotPending):
        await stack.core.approvals.decide(approval.id, Decide(approve=False), LOCAL_PRINCIPAL)


async def test_a_no_goes_back_to_the_model_with_its_reason(stack: Stack, tools: TestTools):
    await mode(stack, PermissionMode.INTERACTIVE)
    talk = await chat(stack)
    script(stack, calls(("send", "x"), ("look", "y")), Reply(text="understood"))
    await say(stack, talk)
    first, second = await pending(stack, talk, 2)
    await stack.core.approvals.decide(
        first.id, Decide(approve=False, reason="not today"), LOCAL_PRINCIPAL
    )
    await stack.core.approvals.decide(second.id, Decide(approve=True), LOCAL_PRINCIPAL)
    await completed(stack, talk)
    assert tools.lines() == []
    assert tool_messages(stack.model.requests[-1]) == [
        "Denied by a person: not today", "seen y",
    ]  # fmt: skip


async def test_what_runs_is_what_was_approved_with_edits(stack: Stack, tools: TestTools):
    await mode(stack, PermissionMode.INTERACTIVE)
    talk = await chat(stack)
    script(stack, calls(("send", "rm")), Reply(text="done"))
    await say(stack, talk)
    [approval] = await pending(stack, talk)
    with pytest.raises(Invalid):
        await stack.core.approvals.decide(
            approval.id, Decide(approve=True, arguments={"text": 5}), LOCAL_PRINCIPAL
        )
    await stack.core.approvals.decide(
        approval.id, Decide(approve=True, arguments={"text": "edited"}), LOCAL_PRINCIPAL
    )
    await completed(stack, talk)
    assert tools.lines() == ["edited"]


@pytest.mark.parametrize("tool", ["send", "glimpse"])
async def test_an_approval_is_void_once_the_rules_have_changed(
    stack: Stack, tools: TestTools, tool: str
):
    await mode(stack, PermissionMode.INTERACTIVE)
    talk = await chat(stack)
    script(stack, calls((tool, "x")), Reply(text="done"))
    await say(stack, talk)
    [approval] = await pending(stack, talk)
    await mode(stack, PermissionMode.INTERACTIVE, look="deny")
    await stack.core.approvals.decide(approval.id, Decide(approve=True), LOCAL_PRINCIPAL)
    await completed(stack, talk)
    assert tools.calls == []
    assert "void" in tool_messages(stack.model.requests[-1])[0]


async def test_an_agents_risk_rules_ask_where_its_chat_would_not(stack: Stack, tools: TestTools):
    """What was approved before they change is void, as with any other rule."""
    await mode(stack, PermissionMode.AUTONOMOUS)
    talk = await chat(stack)
    agent_id = talk.agent_ids[0]
    rules = UpdateAgent(risk_rules={"require_approval_for": ["send"]})
    await stack.core.agents.update(agent_id, rules)
    script(stack, calls(("send", "x"), ("look", "y")), Reply(text="done"))
    await say(stack, talk)
    [approval] = await pending(stack, talk)
    more = UpdateAgent(risk_rules={"require_approval_for": ["send", "look"]})
    await stack.core.agents.update(agent_id, more)
    await stack.core.approvals.decide(approval.id, Decide(approve=True), LOCAL_PRINCIPAL)
    await completed(stack, talk)
    assert tools.lines() == []
    assert "void" in tool_messages(stack.model.requests[-1])[0]


async def test_a_tool_that_an_agent_has_switched_off_is_not_offered(stack: Stack, tools: TestTools):
    await mode(stack, PermissionMode.AUTONOMOUS)
    talk = await chat(stack)
    off = UpdateAgent(config={"disabled_tools": ["send"]})
    await stack.core.agents.update(talk.agent_ids[0], off)
    script(stack, calls(("send", "x")), Reply(text="done"))
    await say(stack, talk)
    await completed(stack, talk)
    offered = [tool["function"]["name"] for tool in stack.model.requests[0].body["tools"]]
    assert "look" in offered
    assert "send" not in offered
    assert tools.lines() == []
    assert "enabled_tools" in tool_messages(stack.model.requests[-1])[0]


async def test_stopping_an_agent_stops_its_turn_and_what_it_asks_for(
    stack: Stack, tools: TestTools
):
    """The chat is there still: started again, the agent answers."""
    await mode(stack, PermissionMode.INTERACTIVE)
    talk = await chat(stack)
    agent_id = talk.agent_ids[0]
    script(stack, calls(("send", "x")), Reply(text="back"))
    await say(stack, talk)
    [approval] = await pending(stack, talk)
    stopped = await stack.core.agents.stop(agent_id)
    assert stopped.status is AgentStatus.OFFLINE
    found = await completed(stack, talk)
    assert stop_reason(found) == "cancelled"
    ended = await stack.core.approvals.get(approval.id, LOCAL_PRINCIPAL)
    assert ended.status is ApprovalStatus.CANCELLED
    assert (await stack.core.agents.get(agent_id)).status is AgentStatus.OFFLINE
    await stack.core.agents.start(agent_id)
    await say(stack, talk, "again")
    await completed(stack, talk, 2)
    assert (await stack.messages(talk.id))[-1].content == "back"
    assert tools.lines() == []


async def test_nothing_runs_for_an_agent_that_was_stopped(stack: Stack, tools: TestTools):
    """Though its turn is not stopped: it began in the same moment and was not seen to run."""
    await mode(stack, PermissionMode.INTERACTIVE)
    talk = await chat(stack)
    script(stack, calls(("send", "x")), Reply(text="done"))
    await say(stack, talk)
    [approval] = await pending(stack, talk)
    async with stack.core.db.transaction() as tx:
        offline = update(AgentRow).where(AgentRow.id == talk.agent_ids[0])
        await tx.conn.execute(offline.values(state=AgentStatus.OFFLINE.value))
    await stack.core.approvals.decide(approval.id, Decide(approve=True), LOCAL_PRINCIPAL)

    async def cancelled() -> bool:
        return await statuses(stack, talk) == ["cancelled"]

    await until(cancelled, what="the call to be over")
    assert tools.lines() == []
    assert len(stack.model.requests) == 1


async def test_a_signal_of_temporal_decides_in_local_mode(stack: Stack, tools: TestTools):
    await mode(stack, PermissionMode.INTERACTIVE)
    talk = await chat(stack)
    script(stack, calls(("send", "by signal")), Reply(text="done"))
    await say(stack, talk)
    [approval] = await pending(stack, talk)
    await until(lambda: is_running(stack, approval.id), what="the approval's run")
    await stack.client.get_workflow_handle(approval_workflow_id(approval.id)).signal("approve")
    await completed(stack, talk)
    assert tools.lines() == ["by signal"]
    decided = await stack.core.approvals.get(approval.id, LOCAL_PRINCIPAL)
    assert decided.decided_by_key == "temporal"


@pytest.mark.parametrize("tool", ["look", "glimpse"])
async def test_a_tool_that_cannot_answer_yet_is_tried_again(
    stack: Stack, tools: TestTools, tool: str
):
    talk = await chat(stack)
    tools.failures = 2
    tools.held.set()
    script(stack, calls((tool, "a")), Reply(text="done"))
    await say(stack, talk)
    await completed(stack, talk)
    assert len(tools.calls) == 3
    assert tool_messages(stack.model.requests[-1]) == ["seen a"]


async def test_a_glance_is_told_as_begun_and_over_with_the_time_it_took(
    stack: Stack, tools: TestTools
):
    talk = await chat(stack)
    script(stack, calls(("glimpse", "a")), Reply(text="done"))
    await say(stack, talk)
    await until(tools.entered.is_set, what="the tool to start")
    assert await statuses(stack, talk) == ["ready"]
    tools.held.set()
    found = await completed(stack, talk)
    told = [one for one in found if one.type in {EventType.TOOL_STARTED, EventType.TOOL_RESULT}]
    assert [one.type for one in told] == [EventType.TOOL_STARTED, EventType.TOOL_RESULT]
    assert told[0].data["arguments"] == {"text": "a"}
    async with stack.core.db.transaction() as tx:
        rows = await tx.conn.execute(
            select(
                ToolExecutionRow.attempt, ToolExecutionRow.started_at, ToolExecutionRow.ended_at
            ).where(ToolExecutionRow.conversation_id == talk.id)
        )
    [(attempt, begun, over)] = rows.all()
    assert attempt == 1
    assert begun
    assert over
    assert begun < over


async def test_calls_that_cannot_run_are_answered(stack: Stack, tools: TestTools):
    talk = await chat(stack)
    script(
        stack,
        Reply(tool_calls=[("nothing", {}), ("look", {"text": 5}), ("look", "{broken")]),
        Reply(text="done"),
    )
    await say(stack, talk)
    await completed(stack, talk)
    assert tools.calls == []
    unknown, misfit, broken = tool_messages(stack.model.requests[-1])
    assert "There is no tool 'nothing'" in unknown
    assert "text: 5 is not of type 'string'" in misfit
    assert "not valid JSON" in broken


async def test_a_turn_whose_every_wish_is_denied_stops(stack: Stack, tools: TestTools):
    await mode(stack, PermissionMode.AUTONOMOUS, send="deny")
    talk = await chat(stack)
    stack.model.responder = lambda received: calls(("send", "again"))
    await say(stack, talk)
    found = await completed(stack, talk)
    assert stop_reason(found) == "tool_denied"
    assert tools.calls == []
    assert len(stack.model.requests) == 3


async def test_a_turn_takes_so_many_steps_and_no_more(stack: Stack, tools: TestTools):
    talk = await chat(stack)

    def insist(received: Received) -> Reply:
        return calls(("look", "more")) if received.body.get("tools") else Reply(text="enough")

    stack.model.responder = insist
    await say(stack, talk)
    await completed(stack, talk)
    assert len(stack.model.requests) == 25
    assert len(tools.calls) == 24


@pytest.mark.parametrize("tool", ["wait", "glimpse"])
async def test_a_cancel_stops_the_turn_its_tools_and_what_it_asks_for(
    stack: Stack, tools: TestTools, tool: str
):
    await mode(stack, PermissionMode.INTERACTIVE, **{tool: "allow"})
    talk = await chat(stack)
    script(stack, calls((tool, "long"), ("send", "x")))
    await say(stack, talk)
    [approval] = await pending(stack, talk)
    await until(tools.entered.is_set, what="the tool to start")
    assert await stack.core.conversations.cancel_turn(talk.id, LOCAL_PRINCIPAL)
    found = await completed(stack, talk)
    assert stop_reason(found) == "cancelled"
    assert await statuses(stack, talk) == ["cancelled", "cancelled"]
    decided = await stack.core.approvals.get(approval.id, LOCAL_PRINCIPAL)
    assert decided.status is ApprovalStatus.CANCELLED
    assert not await stack.core.conversations.cancel_turn(talk.id, LOCAL_PRINCIPAL)
    await say(stack, talk, "and now?")
    await completed(stack, talk, 2)
    sent = stack.model.requests[-1].body["messages"]
    assert sent[-1]["content"] == "and now?"
    assert [one["role"] for one in sent[-4:]] == ["assistant", "tool", "tool", "user"]

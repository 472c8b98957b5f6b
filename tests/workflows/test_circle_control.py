"""Circles that pause, resume and archive while their conversations talk."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import func, update

from conclave.circles.commands import AddMember, CreateCircle
from schema.domain.agents import Agent
from schema.domain.conversations import Conversation, ConversationStatus
from schema.payloads import names
from schema.tables.inbox import OutboxRow
from tests.fakes.model_server import Behaviour, Received, Reply
from tests.harness.errands import lose
from tests.harness.stack import Stack
from tests.waiting import until

_numbers = itertools.count(1)


async def circle_of(stack: Stack, *agents: Agent) -> str:
    """Make and start a circle of agents."""
    name = f"control-{next(_numbers)}"
    await stack.core.circles.create(CreateCircle(name=name, display_name=name))
    for agent in agents:
        await stack.core.circles.add_member(name, AddMember(agent_id=agent.id))
    await stack.core.circles.start(name)
    return name


async def talk_in(stack: Stack, max_turns: int = 4) -> tuple[str, Conversation]:
    """Start a conversation in a circle, and wait until its second turn is being spoken."""

    def slow(asked: Received) -> Behaviour:
        return Reply(text=f"word {asked.n}", delay=0.5 if asked.n == 2 else 0)

    stack.model.responder = slow
    agents = await stack.agents("Ada", "Bob")
    name = await circle_of(stack, *agents)
    talk = await stack.conversation(agents, circle_name=name, max_turns=max_turns)
    await until(lambda: len(stack.model.requests) == 2, what="the second turn")
    return name, talk


async def shows(stack: Stack, talk: Conversation, status: ConversationStatus) -> None:
    """Wait until the workflow has taken a status in."""
    handle = stack.client.get_workflow_handle(talk.workflow_id)

    async def seen() -> bool:
        described = await handle.describe()
        return described.search_attributes.get(names.STATUS_ATTRIBUTE) == [status.value]

    await until(seen, what=f"{status} in Temporal")


async def deliver_all(stack: Stack) -> None:
    """Let the relay say what is owed."""
    async with stack.core.db.transaction() as tx:
        await tx.conn.execute(update(OutboxRow).values(due_at=func.now()))
    await stack.parts.relay.relay_due()


async def test_a_pause_lets_the_turn_in_flight_end_and_begins_no_other(stack: Stack):
    name, talk = await talk_in(stack)
    await stack.core.circles.pause(name)
    await shows(stack, talk, ConversationStatus.PAUSED)

    async def spoken() -> bool:
        return (await stack.get(talk.id)).turn_count == 2

    await until(spoken, what="the turn in flight")
    assert (await stack.get(talk.id)).status is ConversationStatus.PAUSED
    assert len(stack.model.requests) == 2
    await stack.core.circles.resume(name)
    ended = await stack.reaches(talk.id, ConversationStatus.COMPLETED)
    assert ended.turn_count == 4
    assert [message.content for message in await stack.messages(talk.id)] == [
        "word 1", "word 2", "word 3", "word 4",
    ]  # fmt: skip
    assert len(stack.model.requests) == 4


async def test_a_pause_that_is_taken_back_at_once_stops_nothing(stack: Stack):
    name, talk = await talk_in(stack)
    await stack.core.circles.pause(name)
    await stack.core.circles.resume(name)
    ended = await stack.reaches(talk.id, ConversationStatus.COMPLETED)
    assert ended.turn_count == len(stack.model.requests) == 4


async def test_a_pause_whose_wake_up_is_lost_holds_all_the_same(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
):
    name, talk = await talk_in(stack)
    with monkeypatch.context() as lost:
        lost.setattr(stack.core.errands, "run", lose)
        await stack.core.circles.pause(name)
        await shows(stack, talk, ConversationStatus.PAUSED)
        assert (await stack.get(talk.id)).turn_count == len(stack.model.requests) == 2
        await stack.core.circles.resume(name)
    await deliver_all(stack)
    ended = await stack.reaches(talk.id, ConversationStatus.COMPLETED)
    assert ended.turn_count == len(stack.model.requests) == 4


async def test_archiving_ends_the_turn_in_flight(stack: Stack):
    name, talk = await talk_in(stack)
    await stack.core.circles.archive(name)
    ended = await stack.get(talk.id)
    assert ended.final
    assert ended.status is ConversationStatus.COMPLETED
    result = await stack.client.get_workflow_handle(talk.workflow_id).result()
    assert result == {"status": "completed", "turn_count": 1}
    assert [message.content for message in await stack.messages(talk.id)] == ["word 1"]


async def test_waking_again_and_again_changes_nothing(stack: Stack):
    _, talk = await talk_in(stack)
    handle = stack.client.get_workflow_handle(talk.workflow_id)
    for _ in range(10):
        await handle.signal(names.WAKE_SIGNAL)
        await stack.core.dispatch.wake(talk.id)
    await stack.reaches(talk.id, ConversationStatus.COMPLETED)
    await handle.result()
    await stack.core.dispatch.wake(talk.id)
    assert [message.turn for message in await stack.messages(talk.id)] == [1, 2, 3, 4]
    assert (await stack.get(talk.id)).execution == 1
    assert len(stack.model.requests) == 4

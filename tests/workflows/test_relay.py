"""What is owed to Temporal is said in the end, whatever was down or died."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import update

from conclave.conversations.dispatch import ConversationDispatch
from conclave.errors import ExecutionClosed
from schema.domain.conversations import ConversationStatus
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.tables.conversations import ConversationRow
from tests.harness.desk import Desk


async def drain(desk: Desk, relays: int = 1) -> None:
    """Let everything owed become due and relays deliver it."""
    await desk.let_time_pass()
    while sum(await asyncio.gather(*(desk.relay().relay_due() for _ in range(relays)))):
        pass


async def test_what_starts_without_temporal_is_started_later(desk: Desk):
    desk.engine.down = True
    talk = await desk.conversation(auto_run=True)
    assert talk.status is ConversationStatus.PENDING
    assert desk.engine.started == []
    assert await desk.owed() == 1
    desk.engine.down = False
    await drain(desk)
    assert [state.conversation_id for state in desk.engine.woken] == [talk.id]
    assert await desk.owed() == 0


async def test_a_request_is_accepted_without_temporal_and_told_later(desk: Desk):
    talk = await desk.conversation()
    desk.engine.down = True
    accepted = await desk.advance(talk, "Hello")
    waited = await desk.advance(talk, "Anyone?", wait=True)
    assert not accepted.finished
    assert not waited.finished
    assert [item.prompted for item in await desk.waiting(talk)] == [True, True]
    desk.engine.down = False
    await drain(desk)
    assert {state.conversation_id for state in desk.engine.woken} == {talk.id}
    assert await desk.owed() == 0


async def test_a_delivery_that_fails_comes_back(desk: Desk):
    desk.engine.down = True
    talk = await desk.conversation(auto_run=True)
    await desk.let_time_pass()
    assert await desk.relay().relay_due() == 1
    assert await desk.relay().relay_due() == 0
    assert await desk.owed() == 1
    desk.engine.down = False
    await drain(desk)
    assert [state.conversation_id for state in desk.engine.woken] == [talk.id]


async def test_a_crash_between_commit_and_wake_up_loses_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    async def died(self: ConversationDispatch, conversation_id: int) -> None:
        return None

    talk = await desk.conversation()
    monkeypatch.setattr(ConversationDispatch, "wake", died)
    await desk.advance(talk, "Hello")
    await desk.core.conversations.end(talk.id, LOCAL_PRINCIPAL)
    other = await desk.conversation()
    await desk.advance(other, "Hello")
    assert desk.engine.woken == []
    await drain(desk)
    assert other.id in {state.conversation_id for state in desk.engine.woken}
    assert await desk.owed() == 0


async def test_nothing_is_started_for_an_ended_conversation(desk: Desk):
    desk.engine.down = True
    talk = await desk.conversation(auto_run=True)
    await desk.core.conversations.end(talk.id, LOCAL_PRINCIPAL)
    desk.engine.down = False
    await drain(desk)
    assert desk.engine.woken == []
    assert await desk.owed() == 0


async def test_many_conversations_are_told_by_several_relays(desk: Desk):
    desk.engine.down = True
    agents = await desk.agents("Ada", "Bob")
    talks = [await desk.conversation(*agents, auto_run=True) for _ in range(120)]
    desk.engine.down = False
    await drain(desk, relays=3)
    told = [state.conversation_id for state in desk.engine.woken]
    assert sorted(told) == [talk.id for talk in talks]
    assert await desk.owed() == 0


async def test_a_claimed_request_owes_no_wake_up(desk: Desk):
    talk = await desk.conversation()
    desk.engine.down = True
    item = await desk.ask(talk, "Hello")
    assert await desk.owed() == 1
    await desk.complete(talk, item)
    assert await desk.owed() == 0


async def test_a_request_to_a_run_that_is_over_starts_another(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    talk = await desk.conversation()
    async with desk.core.db.transaction() as tx:
        await tx.conn.execute(
            update(ConversationRow).where(ConversationRow.id == talk.id).values(started=True)
        )
    desk.engine.down = True
    await desk.advance(talk, "Hello")
    desk.engine.down = False
    wake = desk.engine.wake_conversation

    async def over_at_first(state: object) -> None:
        monkeypatch.setattr(desk.engine, "wake_conversation", wake)
        raise ExecutionClosed("That run is over.")

    monkeypatch.setattr(desk.engine, "wake_conversation", over_at_first)
    await drain(desk)
    assert [state.execution for state in desk.engine.woken] == [2]
    assert (await desk.get(talk)).workflow_id == f"conversation-{talk.id}-2"
    assert await desk.owed() == 0

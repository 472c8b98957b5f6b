"""One model call against the record: whatever dies when, a reply is committed once."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import insert, select, text, update

from conclave.agents.commands import CreateAgent
from conclave.conversations.commands import Advance
from conclave.conversations.errors import ConversationEnded, LateAttempt, TurnFailed
from conclave.errors import ProviderRefused, ProviderTimeout, ProviderUnavailable
from schema.domain.conversations import Conversation, ConversationStatus, MessageRole
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.providers import ProviderName
from schema.payloads.agent_turn import CallOutcome, CompleteResult
from schema.payloads.conversations import LookInput, SettleInput
from schema.tables.agents import AgentRow
from schema.tables.conversations import ConversationRow, MessageRow
from tests.fakes.gateway import COST, WORST_CASE, Killed
from tests.harness.desk import Desk
from tests.waiting import until


async def test_a_retry_finds_the_committed_reply(desk: Desk):
    talk = await desk.conversation()
    item = await desk.ask(talk, "Hello")
    first = await desk.complete(talk, item)
    again = await desk.complete(talk, item, attempt=2)
    assert first == again
    assert first.outcome is CallOutcome.SPOKEN
    assert len(desk.gateway.requests) == 1
    assert await desk.said(talk) == ["Hello", "word 1"]
    assert [entry.status for entry in await desk.ledger(talk)] == ["committed"]


async def test_a_retry_finds_the_reply_though_the_conversation_has_ended_since(desk: Desk):
    talk = await desk.conversation()
    item = await desk.ask(talk, "Hello")
    first = await desk.complete(talk, item)
    await desk.core.conversations.end(talk.id, LOCAL_PRINCIPAL)
    again = await desk.complete(talk, item, attempt=2)
    assert again.outcome is CallOutcome.SPOKEN
    assert again.seq == first.seq
    assert again.status is ConversationStatus.COMPLETED


async def test_a_late_attempt_cannot_commit(desk: Desk):
    talk = await desk.conversation()
    item = await desk.ask(talk, "Hello")
    held = desk.gateway.hold("late")
    late = asyncio.create_task(desk.complete(talk, item))
    await held.entered.wait()
    desk.gateway.then("in time")
    await desk.complete(talk, item, attempt=2)
    held.released.set()
    with pytest.raises(LateAttempt):
        await late
    assert await desk.said(talk) == ["Hello", "in time"]
    statuses = [(entry.status, entry.cost_usd) for entry in await desk.ledger(talk)]
    assert statuses == [("unknown", WORST_CASE), ("committed", COST)]


async def test_the_first_of_two_attempts_cannot_commit_before_the_second_either(desk: Desk):
    talk = await desk.conversation()
    item = await desk.ask(talk, "Hello")
    first, second = desk.gateway.hold("first"), desk.gateway.hold("second")
    early = asyncio.create_task(desk.complete(talk, item))
    await first.entered.wait()
    later = asyncio.create_task(desk.complete(talk, item, attempt=2))
    await second.entered.wait()
    first.released.set()
    with pytest.raises(LateAttempt):
        await early
    second.released.set()
    await later
    assert await desk.said(talk) == ["Hello", "second"]
    assert [entry.status for entry in await desk.ledger(talk)] == ["unknown", "committed"]


async def test_a_cut_call_is_settled_at_its_worst_case_by_the_next_attempt(desk: Desk):
    talk = await desk.conversation()
    item = await desk.ask(talk, "Hello")
    desk.gateway.then(Killed())
    with pytest.raises(Killed):
        await desk.complete(talk, item)
    assert [entry.status for entry in await desk.ledger(talk)] == ["reserved"]
    await desk.complete(talk, item, attempt=2)
    cut, committed = await desk.ledger(talk)
    assert (cut.status, cut.cost_usd) == ("unknown", WORST_CASE)
    assert (committed.status, committed.cost_usd) == ("committed", COST)
    assert await desk.said(talk) == ["Hello", "word 2"]
    told = [message.content for message in desk.gateway.requests[1].messages[1:]]
    assert told == ["Hello"]


async def test_a_cancelled_call_is_settled_at_its_worst_case(desk: Desk):
    talk = await desk.conversation()
    held = desk.gateway.hold("never")
    turn = asyncio.create_task(desk.complete(talk))
    await held.entered.wait()
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    [entry] = await desk.ledger(talk)
    assert (entry.status, entry.error_code, entry.cost_usd) == ("unknown", "cancelled", WORST_CASE)


async def test_a_reply_is_refused_after_the_end(desk: Desk):
    talk = await desk.conversation()
    item = await desk.ask(talk, "Hello")
    held = desk.gateway.hold("too late")
    turn = asyncio.create_task(desk.complete(talk, item))
    await held.entered.wait()
    ended = await desk.core.conversations.end(talk.id, LOCAL_PRINCIPAL)
    held.released.set()
    with pytest.raises(LateAttempt):
        await turn
    assert await desk.said(talk) == ["Hello"]
    assert (await desk.get(talk)).turn_count == ended.turn_count == 0
    [entry] = await desk.ledger(talk)
    assert (entry.status, entry.cost_usd) == ("unknown", WORST_CASE)
    assert (await desk.complete(talk, item, attempt=2)).outcome is CallOutcome.ALREADY_ANSWERED
    assert (await desk.complete(talk)).outcome is CallOutcome.ENDED
    with pytest.raises(ConversationEnded):
        await desk.advance(talk, "More")


async def test_an_answered_request_is_not_answered_twice(desk: Desk):
    talk = await desk.conversation()
    item = await desk.ask(talk, "Hello")
    await desk.complete(talk, item)
    again = await desk.complete(talk, item, turn=2)
    assert again.outcome is CallOutcome.ALREADY_ANSWERED
    assert again.turn == 1
    assert len(desk.gateway.requests) == 1
    assert await desk.said(talk) == ["Hello", "word 1"]


async def test_requests_are_answered_in_their_order(desk: Desk):
    talk = await desk.conversation()
    first, second = await desk.ask(talk, "one"), await desk.ask(talk, "two")
    behind = await desk.complete(talk, second)
    assert behind.outcome is CallOutcome.BEHIND
    assert behind.waiting == [first, second]
    spoken = await desk.complete(talk, first)
    assert spoken.waiting == [second]
    await desk.complete(talk, second, turn=2)
    assert await desk.said(talk) == ["one", "word 1", "two", "word 2"]


async def test_an_older_run_says_nothing(desk: Desk):
    talk = await desk.conversation()
    async with desk.core.db.transaction() as tx:
        await tx.conn.execute(
            update(ConversationRow).where(ConversationRow.id == talk.id).values(execution=2)
        )
    refused = await desk.complete(talk)
    assert refused.outcome is CallOutcome.SUPERSEDED
    settled = await desk.record.settle(
        SettleInput(
            conversation_id=talk.id,
            execution=1,
            status=ConversationStatus.FAILED,
            reason="An older run failed",
        )
    )
    assert settled.status is ConversationStatus.PENDING
    looked = await desk.record.look(LookInput(conversation_id=talk.id, execution=1))
    assert looked.superseded
    assert (await desk.complete(talk, execution=2)).outcome is CallOutcome.SPOKEN


async def paused(desk: Desk, talk: Conversation) -> None:
    """Set what the pause of a circle sets."""
    async with desk.core.db.transaction() as tx:
        await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == talk.id)
            .values(status=ConversationStatus.PAUSED)
        )


async def test_no_turn_begins_while_paused(desk: Desk):
    talk = await desk.conversation()
    item = await desk.ask(talk, "Hello")
    await paused(desk, talk)
    refused = await desk.complete(talk, item)
    assert refused.outcome is CallOutcome.PAUSED
    assert refused.waiting == [item]
    assert desk.gateway.requests == []
    assert await desk.said(talk) == []


async def test_the_turn_in_flight_is_committed_though_paused(desk: Desk):
    talk = await desk.conversation()
    held = desk.gateway.hold("last word")
    turn = asyncio.create_task(desk.complete(talk))
    await held.entered.wait()
    await paused(desk, talk)
    held.released.set()
    assert (await turn).status is ConversationStatus.PAUSED
    assert await desk.said(talk) == ["last word"]
    assert (await desk.complete(talk, turn=2)).outcome is CallOutcome.PAUSED


async def test_a_cut_turn_goes_on_though_paused(desk: Desk):
    talk = await desk.conversation()
    desk.gateway.then(Killed())
    with pytest.raises(Killed):
        await desk.complete(talk)
    await paused(desk, talk)
    spoken = await desk.complete(talk, attempt=2)
    assert (spoken.outcome, spoken.status) == (CallOutcome.SPOKEN, ConversationStatus.PAUSED)


@pytest.mark.parametrize(
    "change",
    [
        {"deleted_at": "now()"}, {"state": "offline"}, {"state": "paused"},
        {"state": "maintenance"}, {"state": "error"},
    ],
)  # fmt: skip
async def test_an_agent_that_is_gone_is_not_asked(desk: Desk, change: dict[str, str]):
    talk = await desk.conversation()
    async with desk.core.db.transaction() as tx:
        await tx.conn.execute(
            update(AgentRow).where(AgentRow.id == talk.agent_ids[0]).values(change)
        )
    item = await desk.ask(talk, "Hello")
    gone = await desk.complete(talk, item)
    assert gone.outcome is CallOutcome.AGENT_GONE
    spoken = await desk.complete(talk, item, agent_id=talk.agent_ids[1])
    assert spoken.outcome is CallOutcome.SPOKEN


async def test_a_cut_turn_goes_on_though_its_agent_is_in_error(desk: Desk):
    """Whoever pauses an agent stops its turns; an error lets them end."""
    talk = await desk.conversation()
    desk.gateway.then(Killed())
    with pytest.raises(Killed):
        await desk.complete(talk)
    async with desk.core.db.transaction() as tx:
        await tx.conn.execute(
            update(AgentRow).where(AgentRow.id == talk.agent_ids[0]).values(state="error")
        )
    assert (await desk.complete(talk, attempt=2)).outcome is CallOutcome.SPOKEN
    assert (await desk.complete(talk, turn=2)).outcome is CallOutcome.AGENT_GONE


async def test_an_agents_system_prompt_is_part_of_its_instructions(desk: Desk):
    made = CreateAgent(
        name="Ada",
        provider=ProviderName.OPENAI,
        model="gpt-4o-mini",
        system_prompt="Answer in rhyme.",
        background={"education": "poetry"},
    )
    ada = await desk.core.agents.create(made)
    talk = await desk.conversation(ada)
    await desk.complete(talk)
    system = desk.gateway.requests[-1].messages[0].content
    assert "Answer in rhyme." in system
    assert "Education: poetry" in system


async def fails_in_the_end(
    desk: Desk, error: ProviderUnavailable
) -> tuple[Conversation, ProviderRefused]:
    """Let a provider fail five times; return the last error."""
    talk = await desk.conversation()
    item = await desk.ask(talk, "Hello")
    desk.gateway.then(*[error] * 6)
    for attempt in range(1, 5):
        with pytest.raises(type(error)):
            await desk.complete(talk, item, attempt=attempt)
    with pytest.raises(ProviderRefused, match=r"asked 5 times") as refused:
        await desk.complete(talk, item, attempt=5)
    assert len(desk.gateway.requests) == 5
    assert await desk.said(talk) == ["Hello"]
    return talk, refused.value


async def test_a_provider_is_asked_five_times_then_the_turn_fails(desk: Desk):
    talk, refused = await fails_in_the_end(desk, ProviderUnavailable("It is overloaded"))
    assert [(entry.status, entry.cost_usd) for entry in await desk.ledger(talk)] == [
        ("failed", 0)
    ] * 5
    item = (await desk.waiting(talk))[0]
    await desk.record.settle(
        SettleInput(
            conversation_id=talk.id,
            execution=1,
            status=ConversationStatus.FAILED,
            reason=refused.message,
            inbox_id=item.id,
        )
    )
    failed = await desk.get(talk)
    assert failed.status is ConversationStatus.FAILED
    assert failed.reason == "It is overloaded (asked 5 times)"
    assert await desk.waiting(talk) == []


async def test_a_provider_that_never_answers_is_asked_five_times_too(desk: Desk):
    talk, _ = await fails_in_the_end(desk, ProviderTimeout("It did not answer within 30 s"))
    entries = await desk.ledger(talk)
    assert [entry.status for entry in entries] == ["unknown"] * 5
    assert (await desk.get(talk)).cost_usd == 5 * WORST_CASE


async def test_calls_that_were_cut_do_not_count_against_the_provider(desk: Desk):
    talk = await desk.conversation()
    for attempt in range(1, 8):
        desk.gateway.then(Killed())
        with pytest.raises(Killed):
            await desk.complete(talk, attempt=attempt)
    desk.gateway.then(ProviderUnavailable("It is overloaded"))
    with pytest.raises(ProviderUnavailable):
        await desk.complete(talk, attempt=8)
    assert (await desk.complete(talk, attempt=9)).outcome is CallOutcome.SPOKEN


async def test_each_request_has_its_own_five_tries(desk: Desk):
    talk, refused = await fails_in_the_end(desk, ProviderUnavailable("It is overloaded"))
    [first] = await desk.waiting(talk)
    await desk.record.settle(
        SettleInput(
            conversation_id=talk.id,
            execution=1,
            status=ConversationStatus.FAILED,
            reason=refused.message,
            inbox_id=first.id,
        )
    )
    second = await desk.ask(talk, "Again")
    desk.gateway.reset()
    desk.gateway.then(*[ProviderUnavailable("It is overloaded")] * 4)
    for attempt in range(1, 5):
        with pytest.raises(ProviderUnavailable):
            await desk.complete(talk, second, attempt=attempt)
    assert (await desk.complete(talk, second, attempt=5)).outcome is CallOutcome.SPOKEN


async def test_a_refused_call_costs_nothing_and_the_request_is_told_why(desk: Desk):
    talk = await desk.conversation()
    item = await desk.ask(talk, "Hello")
    desk.gateway.then(ProviderRefused("No such model"))
    with pytest.raises(ProviderRefused):
        await desk.complete(talk, item)
    await desk.record.settle(
        SettleInput(
            conversation_id=talk.id,
            execution=1,
            status=ConversationStatus.FAILED,
            reason="No such model",
            inbox_id=item.id,
        )
    )
    [entry] = await desk.ledger(talk)
    assert (entry.status, entry.error_code, entry.cost_usd) == ("failed", "provider_refused", 0)
    with pytest.raises(TurnFailed, match="No such model"):
        await desk.core.conversations._answer(talk.id, item.id)


async def test_the_cost_is_the_sum_of_all_calls(desk: Desk):
    talk = await desk.conversation()
    await desk.complete(talk)
    desk.gateway.then(ProviderUnavailable("busy"), Killed())
    with pytest.raises(ProviderUnavailable):
        await desk.complete(talk, turn=2)
    with pytest.raises(Killed):
        await desk.complete(talk, turn=2, attempt=2)
    await desk.complete(talk, turn=2, attempt=3)
    entries = await desk.ledger(talk)
    assert [entry.status for entry in entries] == ["committed", "failed", "unknown", "committed"]
    assert (await desk.get(talk)).cost_usd == WORST_CASE + 2 * COST


async def test_a_turn_is_committed_once_by_many_attempts_at_once(desk: Desk):
    talk = await desk.conversation()
    item = await desk.ask(talk, "Hello")
    results = await asyncio.gather(
        *(desk.complete(talk, item, attempt=n) for n in range(1, 9)), return_exceptions=True
    )
    spoken = [result for result in results if isinstance(result, CompleteResult)]
    assert spoken
    assert {result.seq for result in spoken} == {2}
    assert all(isinstance(result, CompleteResult | LateAttempt) for result in results)
    roles = [message.role for message in await desk.messages(talk)]
    assert roles == [MessageRole.USER, MessageRole.ASSISTANT]
    assert [entry.status for entry in await desk.ledger(talk)].count("committed") == 1


async def test_a_reply_committed_while_a_retry_waits_for_the_lock_is_found(desk: Desk):
    talk = await desk.conversation()
    async with desk.core.db.transaction() as tx:
        await tx.conn.execute(
            select(ConversationRow.id).where(ConversationRow.id == talk.id).with_for_update()
        )
        retry = asyncio.create_task(desk.complete(talk, attempt=2))
        await until(lambda: waits_for_a_lock(desk), what="the retry to wait")
        reply = {"role": MessageRole.ASSISTANT, "seq": 1, "content": "first", "agent_name": "Ada"}
        place = {"conversation_id": talk.id, "execution": 1, "turn": 1, "step": 1}
        await tx.conn.execute(
            insert(MessageRow).values(**reply, **place, agent_id=talk.agent_ids[0])
        )
        await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == talk.id)
            .values(turn_count=1, last_seq=1)
        )
    assert (await retry).outcome is CallOutcome.SPOKEN
    assert desk.gateway.requests == []
    assert await desk.said(talk) == ["first"]


async def waits_for_a_lock(desk: Desk) -> bool:
    async with desk.core.db.transaction() as tx:
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(await tx.conn.scalar(waiting))


async def test_the_last_turn_and_an_end_marker_complete(desk: Desk):
    short = await desk.conversation(max_turns=1)
    assert (await desk.complete(short)).status is ConversationStatus.COMPLETED
    marked = await desk.conversation(max_turns=9)
    desk.gateway.then("That is all. [DONE]")
    result = await desk.complete(marked)
    assert result.status is ConversationStatus.COMPLETED
    again = await desk.complete(marked, await desk.ask(marked, "And?"), turn=2)
    assert again.status is ConversationStatus.COMPLETED


async def test_the_same_key_is_one_request_in_every_execution(desk: Desk):
    talk = await desk.conversation()
    command = Advance(prompt="Once", idempotency_key="k")

    async def once() -> list[str]:
        answer = await desk.core.conversations.advance(
            talk.id, command, LOCAL_PRINCIPAL, wait=False
        )
        return [message.content for message in answer.messages]

    assert await once() == []
    [item] = await desk.waiting(talk)
    await desk.complete(talk, item)
    assert await once() == ["Once", "word 1"]
    async with desk.core.db.transaction() as tx:
        await tx.conn.execute(
            update(ConversationRow).where(ConversationRow.id == talk.id).values(execution=2)
        )
    assert await once() == ["Once", "word 1"]
    assert await desk.waiting(talk) == []

"""What a budget covers, what it gives back, and when a period is over."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import event, text, update

from conclave.errors import BudgetExhausted, ProviderRefused, ProviderTimeout
from schema.domain.agents import AgentStatus
from schema.domain.conversations import Conversation, ConversationStatus
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.payloads.conversations import SettleInput
from schema.tables.conversations import ConversationRow
from schema.tables.costs import BudgetCounterRow
from schema.tables.model_calls import ModelCallRow
from tests.core.costs.conftest import Till
from tests.fakes.gateway import COST, WORST_CASE, Killed

MAY = ("platform", 0, "2031-05-01")


async def a_talk(till: Till, **agent: object) -> Conversation:
    [ada] = await till.desk.agents("Ada")
    if agent:
        await till.set_agent(ada, **agent)
    return await till.desk.conversation(ada)


async def refusal(till: Till, talk: Conversation, **call: Any) -> BudgetExhausted:
    before = len(till.gateway.requests)
    with pytest.raises(BudgetExhausted) as caught:
        await till.desk.complete(talk, **call)
    assert len(till.gateway.requests) == before, "nothing is sent"
    return caught.value


async def test_a_refused_call_leaves_nothing_behind(till: Till):
    talk = await a_talk(till)
    await till.limit("0.4")
    item = await till.desk.ask(talk, "Hello")
    error = await refusal(till, talk, item=item)
    assert "monthly budget (0.4 USD)" in error.message
    assert await till.calls() == []
    assert await till.desk.said(talk) == []
    assert await till.counters() == {MAY: (0, 0)}


@pytest.mark.parametrize(
    ("failure", "status", "cost"),
    [
        (ProviderRefused("no"), "failed", Decimal(0)),
        (ProviderTimeout("slow"), "unknown", WORST_CASE),
        (asyncio.CancelledError(), "unknown", WORST_CASE),
    ],
)
async def test_a_call_without_a_reply_gives_back_what_it_cannot_have_cost(
    till: Till, failure: BaseException, status: str, cost: Decimal
):
    talk = await a_talk(till, daily_budget_usd=Decimal(5))
    await till.limit("5")
    till.gateway.then(failure)
    with pytest.raises(type(failure)):
        await till.desk.complete(talk)
    [call] = await till.calls()
    assert (call.status, call.cost_usd) == (status, cost)
    assert await till.counters() == {MAY: (cost, 0), ("agent", 1, "2031-05-17"): (cost, 0)}


async def test_a_killed_attempt_is_settled_at_its_worst_case_by_the_next_one(till: Till):
    talk = await a_talk(till)
    await till.limit("1.05")
    till.gateway.then(Killed())
    with pytest.raises(Killed):
        await till.desk.complete(talk)
    assert await till.counters() == {MAY: (0, WORST_CASE)}
    await till.desk.complete(talk, attempt=2)
    assert await till.counters() == {MAY: (WORST_CASE + COST, 0)}
    assert [call.status for call in await till.calls()] == ["unknown", "committed"]


async def test_an_ended_conversation_keeps_nothing_reserved(till: Till):
    talk = await a_talk(till)
    await till.limit("1")
    held = till.gateway.hold("late")
    running = asyncio.create_task(till.desk.complete(talk))
    await held.entered.wait()
    await till.core.conversations.end(talk.id, LOCAL_PRINCIPAL)
    assert await till.counters() == {MAY: (WORST_CASE, 0)}
    held.released.set()
    await asyncio.gather(running, return_exceptions=True)
    assert await till.counters() == {MAY: (WORST_CASE, 0)}


async def test_what_is_left_of_a_turn_that_nobody_tries_again_is_settled_by_upkeep(till: Till):
    talk, other = await a_talk(till), await a_talk(till)
    await till.limit("2")
    for one in (talk, other):
        till.gateway.then(Killed())
        with pytest.raises(Killed):
            await till.desk.complete(one)
    assert await till.settle_left() == 0, "their attempts may still run"
    async with till.core.db.transaction() as tx:
        await tx.conn.execute(
            update(ModelCallRow)
            .where(ModelCallRow.conversation_id == talk.id)
            .values(created_at=text("clock_timestamp() - interval '1 hour'"))
        )
    assert await till.settle_left() == 1
    assert await till.counters() == {MAY: (WORST_CASE, WORST_CASE)}
    async with till.core.db.transaction() as tx:  # another execution has taken over
        await tx.conn.execute(
            update(ConversationRow).where(ConversationRow.id == other.id).values(execution=2)
        )
    assert await till.settle_left() == 1
    assert await till.settle_left() == 0
    assert await till.counters() == {MAY: (2 * WORST_CASE, 0)}
    assert {call.status for call in await till.calls()} == {"unknown"}
    assert (await till.desk.get(talk)).cost_usd == WORST_CASE


async def test_a_month_and_a_day_begin_at_midnight_in_utc(till: Till):
    talk = await a_talk(till, daily_budget_usd=Decimal("0.505"))
    await till.limit("0.515")
    till.clock.now = datetime(2031, 5, 31, 23, 59, 59, tzinfo=UTC)
    held = till.gateway.hold("before midnight")
    running = asyncio.create_task(till.desk.complete(talk))
    await held.entered.wait()
    till.clock.now = datetime(2031, 6, 1, 0, 0, 1, tzinfo=UTC)
    other = await till.desk.conversation(await till.core.agents.get(1))
    await till.desk.complete(other)
    held.released.set()
    await running
    assert await till.counters() == {
        MAY: (COST, 0),
        ("agent", 1, "2031-05-31"): (COST, 0),
        ("platform", 0, "2031-06-01"): (COST, 0),
        ("agent", 1, "2031-06-01"): (COST, 0),
    }
    error = await refusal(till, other, turn=2)
    assert error.details["scope"] == "agent"
    till.clock.pass_days(1)
    await till.desk.complete(other, turn=2)
    assert (await till.core.costs.budget()).spent_usd == 2 * COST


async def test_a_task_holds_its_own_budget_whoever_raises_it(till: Till):
    talk = await a_talk(till)
    task_id = await till.task(talk, "0.505")
    await till.desk.complete(talk)
    error = await refusal(till, talk, turn=2)
    assert error.details == {
        "scope": "task", "limit": 0.505, "spent": 0.01, "reserved": 0.0, "needed": 0.5,
    }  # fmt: skip
    async with till.core.db.transaction() as tx:
        await till.core.budgets.raise_task_budget(tx, task_id, Decimal("0.2"))
    assert till.tasks.woken == 0, "it is no raise"
    async with till.core.db.transaction() as tx:
        await till.core.budgets.raise_task_budget(tx, task_id, Decimal("0.51"))
    await till.desk.complete(talk, turn=2)
    await refusal(till, talk, turn=3)
    async with till.core.db.transaction() as tx:
        await till.core.budgets.grant(tx, task_id, Decimal("0.02"))
        assert await tx.conn.scalar(text("SELECT budget_usd FROM tasks")) == Decimal("0.53")
    assert till.tasks.woken == 2
    await till.desk.complete(talk, turn=3)
    assert await till.counters() == {}, "the platform and the agent have no limit"


async def test_a_task_uses_no_more_tokens_than_its_agent_may(till: Till):
    talk = await a_talk(till, max_tokens_per_task=4300)
    await till.task(talk)
    await till.desk.complete(talk)
    await till.set_agent(await till.core.agents.get(1), max_tokens_per_task=4100)
    error = await refusal(till, talk, turn=2)
    assert error.details["scope"] == "task_tokens"
    assert (error.details["limit"], error.details["spent"]) == (4100, 5)
    await till.desk.complete(await till.desk.conversation(await till.core.agents.get(1)))  # no task


async def test_a_model_without_a_price_is_not_called_under_a_budget(till: Till):
    till.gateway.worst_case = None
    talk = await a_talk(till)
    await till.desk.complete(talk)
    [call] = await till.calls()
    assert (call.is_unpriced, call.cost_usd) == (True, COST)  # as the model's side says
    await till.limit("1")
    error = await refusal(till, talk, turn=2)
    assert "gpt-4o-mini is not known" in error.message
    assert (error.code, error.details["scope"]) == ("budget_exhausted", "platform")
    await till.price("10")
    await till.desk.complete(talk, turn=2)
    call = (await till.calls())[-1]
    assert (call.is_unpriced, call.cost_usd) == (False, Decimal("0.00005"))
    assert call.reserved_usd > Decimal("0.04")  # 4096 tokens and the prompt, at 10 USD a million
    assert await till.counters() == {MAY: (COST + Decimal("0.00005"), 0)}


async def test_without_a_hard_stop_calls_go_on(till: Till):
    till.gateway.worst_case = None
    talk = await a_talk(till)
    await till.limit("0.001", hard_stop=False)
    await till.desk.complete(talk)
    await till.desk.complete(talk, turn=2)
    budget = await till.core.costs.budget()
    assert budget.spent_usd == 2 * COST > budget.monthly_limit_usd


async def test_an_agent_whose_day_is_spent_shows_as_paused_until_there_is_budget_again(till: Till):
    talk = await a_talk(till, daily_budget_usd=Decimal("0.505"))
    till.clock.now = datetime.now(UTC)

    async def status() -> AgentStatus:
        return (await till.core.agents.get(1)).status

    await till.desk.complete(talk)
    assert await status() is not AgentStatus.PAUSED
    await refusal(till, talk, turn=2)
    assert await status() is AgentStatus.PAUSED
    await till.set_agent(await till.core.agents.get(1), daily_budget_usd=Decimal("0.51"))
    assert await status() is not AgentStatus.PAUSED
    await till.set_agent(await till.core.agents.get(1), daily_budget_usd=Decimal("0.01"))
    assert await status() is AgentStatus.PAUSED
    async with till.core.db.transaction() as tx:
        yesterday = text("since - 1")
        await tx.conn.execute(update(BudgetCounterRow).values(since=yesterday))
    assert await status() is not AgentStatus.PAUSED


async def test_what_waits_for_budget_is_woken_when_there_is_some(till: Till):
    talk = await a_talk(till)
    await till.limit("0.505")
    await till.desk.complete(talk)
    await refusal(till, talk, turn=2)
    woken = till.tasks.woken
    assert await till.upkeep() == 0
    await till.limit("0.505")
    assert (await till.upkeep(), till.tasks.woken) == (0, woken + 1), "a limit was set"
    till.clock.pass_days(31)
    assert (await till.upkeep(), till.tasks.woken) == (1, woken + 2), "a month has begun"
    assert await till.upkeep() == 0


async def test_where_no_budget_applies_no_statement_is_added(till: Till):
    talk = await a_talk(till)
    seen: list[str] = []

    def note(*given: Any) -> None:
        seen.append(given[2])

    engine = till.core.db.engine.sync_engine
    await till.desk.complete(talk)
    event.listen(engine, "before_cursor_execute", note)
    try:
        await till.desk.complete(talk, turn=2)
        without = len(seen)
        event.remove(engine, "before_cursor_execute", note)
        await till.limit("5")
        await till.set_agent(await till.core.agents.get(1), daily_budget_usd=Decimal(5))
        await till.desk.complete(talk, turn=3)
        event.listen(engine, "before_cursor_execute", note)
        await till.desk.complete(talk, turn=4)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert len(seen) - without == without + 1


async def test_a_turn_that_meets_its_budget_fails_as_such(till: Till):
    talk = await a_talk(till)
    item = await till.desk.ask(talk, "Hello")
    await till.desk.record.settle(
        SettleInput(
            conversation_id=talk.id,
            execution=1,
            status=ConversationStatus.FAILED,
            reason="The monthly budget is spent.",
            inbox_id=item.id,
            code="budget_exhausted",
        )
    )
    [told] = await till.events("conversation.turn_failed")
    assert (told["code"], told["reason"]) == ("budget_exhausted", "The monthly budget is spent.")
    with pytest.raises(BudgetExhausted, match="The monthly budget is spent"):
        await till.core.conversations._answer(talk.id, item.id)

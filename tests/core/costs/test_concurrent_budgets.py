"""Many agents at once against one budget: what reaches the provider, and every instant between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy import text

from conclave.costs.commands import SetBudget
from conclave.costs.counters import CounterRepository, platform_key
from conclave.db import Database
from conclave.errors import BudgetExhausted
from schema.domain.conversations import Conversation
from tests.core.costs.conftest import Till
from tests.fakes.gateway import COST
from tests.waiting import until

AGENTS = 64
AFFORDED = 23
LIMIT = COST * AFFORDED


@asynccontextmanager
async def never_over(database: Database, limit: Decimal) -> AsyncGenerator[list[Decimal]]:
    """Let PostgreSQL refuse every row over the limit, and watch from outside besides."""
    rule = f"CHECK (spent_usd + reserved_usd <= {limit})"
    async with database.transaction() as tx:
        await tx.conn.execute(text(f"ALTER TABLE budget_counters ADD CONSTRAINT never {rule}"))
    seen: list[Decimal] = []
    watching = asyncio.create_task(_watch(database, seen))
    try:
        yield seen
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        async with database.transaction() as tx:
            await tx.conn.execute(text("ALTER TABLE budget_counters DROP CONSTRAINT never"))


async def _watch(database: Database, seen: list[Decimal]) -> None:
    """Add up the ledger itself, again and again: each sum is of one snapshot."""
    while True:
        async with database.autocommit() as tx:
            found = await tx.conn.scalar(
                text(
                    "SELECT sum(CASE status WHEN 'reserved' THEN reserved_usd ELSE cost_usd END)"
                    " FROM model_calls"
                )
            )
        seen.append(found or Decimal(0))


async def talks(till: Till, count: int = AGENTS, *, one_agent: bool = False) -> list[Conversation]:
    agents = await till.desk.agents(*(["Ada"] if one_agent else [f"A{n}" for n in range(count)]))
    return [await till.desk.conversation(agents[n % len(agents)]) for n in range(count)]


async def outcomes(till: Till, among: list[Conversation]) -> tuple[int, list[BudgetExhausted]]:
    """Let every conversation make one call at once."""
    done = await asyncio.gather(
        *(till.desk.complete(talk) for talk in among), return_exceptions=True
    )
    refused = [one for one in done if isinstance(one, BudgetExhausted)]
    spoken = [one for one in done if not isinstance(one, BaseException)]
    failed = {repr(one)[:600] for one in done if isinstance(one, BaseException)} - {
        repr(one)[:600] for one in refused
    }
    assert not failed
    return len(spoken), refused


async def test_exactly_as_many_calls_are_sent_as_the_month_affords(till: Till):
    till.gateway.worst_case = COST
    among = await talks(till)
    await till.limit(str(LIMIT))
    async with never_over(till.core.db, LIMIT) as seen:
        spoken, refused = await outcomes(till, among)
    assert (spoken, len(till.gateway.requests), len(refused)) == (AFFORDED, AFFORDED, 64 - AFFORDED)
    assert seen
    assert max(seen) <= LIMIT
    assert await till.counters() == {("platform", 0, "2031-05-01"): (LIMIT, 0)}
    assert await till.ledger() == LIMIT == (await till.core.costs.budget()).spent_usd
    error = refused[-1]
    assert (error.status, error.retryable) == (402, False)
    assert error.details.keys() == {"scope", "limit", "spent", "reserved", "needed"}
    assert error.details["scope"] == "platform"
    assert error.details["limit"] == float(LIMIT)
    assert error.details["needed"] == float(COST)


async def test_what_calls_did_not_cost_affords_more_of_them(till: Till):
    till.gateway.worst_case = COST * 3
    among = await talks(till)
    await till.limit(str(LIMIT))
    async with never_over(till.core.db, LIMIT) as seen:
        spoken, refused = await outcomes(till, among)
        assert refused
        while True:
            more, refused = await outcomes(till, await talks(till, 1))
            spoken += more
            if refused:
                break
    assert max(seen) <= LIMIT
    assert spoken == len(till.gateway.requests) == AFFORDED - 2  # a third one might cost too much
    assert await till.counters() == {("platform", 0, "2031-05-01"): (spoken * COST, 0)}
    assert await till.ledger() == spoken * COST


async def test_an_agents_day_holds_however_many_turns_it_takes_at_once(till: Till):
    till.gateway.worst_case = COST
    among = await talks(till, one_agent=True)
    agent = await till.core.agents.get(among[0].agent_ids[0])
    await till.set_agent(agent, daily_budget_usd=LIMIT)
    async with never_over(till.core.db, LIMIT) as seen:
        spoken, refused = await outcomes(till, among)
    assert (spoken, len(till.gateway.requests)) == (AFFORDED, AFFORDED)
    assert max(seen) <= LIMIT
    assert await till.counters() == {("agent", agent.id, "2031-05-17"): (LIMIT, 0)}
    assert {str(one.details["scope"]) for one in refused} == {"agent"}


async def test_the_tighter_of_two_budgets_refuses_and_neither_keeps_what_was_refused(till: Till):
    till.gateway.worst_case = COST
    among = await talks(till)
    for talk in among[:48]:
        agent = await till.core.agents.get(talk.agent_ids[0])
        await till.set_agent(agent, daily_budget_usd=COST / 2)
    await till.limit(str(LIMIT))
    async with never_over(till.core.db, LIMIT):
        spoken, refused = await outcomes(till, among)
    assert spoken == AGENTS - 48
    counters = await till.counters()
    assert counters.pop(("platform", 0, "2031-05-01")) == (spoken * COST, 0)
    assert (len(counters), set(counters.values())) == (48, {(0, 0)})
    assert {str(one.details["scope"]) for one in refused} == {"agent"}


async def test_a_limit_set_while_calls_run_counts_every_one_of_them(till: Till):
    """The calls see no limit, one, or another; when all is over none has gone uncounted."""
    till.gateway.worst_case = COST
    among = await talks(till)
    running = asyncio.create_task(outcomes(till, among))
    await until(lambda: till.gateway.requests, every=0.001, what="the first call")
    for amount in ("0.30", "0", "0.25", "0.20"):
        await till.limit(amount)
    spoken, _ = await running
    assert await till.ledger() == spoken * COST
    assert await till.counters() == {("platform", 0, "2031-05-01"): (spoken * COST, 0)}
    assert spoken == len(till.gateway.requests)


async def test_a_limit_set_in_mid_period_counts_what_is_reserved_at_that_moment(till: Till):
    first, second, third = await talks(till, 3)
    await till.desk.complete(first)
    held = till.gateway.hold("late")
    running = asyncio.create_task(till.desk.complete(second))
    await held.entered.wait()
    await till.limit("0.52")
    assert await till.counters() == {("platform", 0, "2031-05-01"): (COST, Decimal("0.5"))}
    with pytest.raises(BudgetExhausted):
        await till.desk.complete(third)
    held.released.set()
    await running
    assert await till.counters() == {("platform", 0, "2031-05-01"): (2 * COST, 0)}
    await till.desk.complete(third)


async def waits_for_calls(till: Till) -> bool:
    """Whether somebody waits for a lock of the ledger."""
    async with till.core.db.autocommit() as tx:
        found = await tx.conn.scalar(
            text(
                "SELECT count(*) FROM pg_locks"
                " WHERE relation = 'model_calls'::regclass AND NOT granted"
            )
        )
    return bool(found)


async def test_a_call_that_is_being_stored_while_a_limit_is_set_is_in_its_counter(till: Till):
    talk = await till.desk.conversation()
    async with till.core.db.transaction() as tx:
        await tx.conn.execute(
            text(
                "INSERT INTO model_calls (conversation_id, execution, turn, step, attempt,"
                " agent_id, provider, model, status, reserved_usd, day)"
                " VALUES (:talk, 1, 1, 1, 1, 1, 'openai', 'm', 'reserved', 0.5, '2031-05-17')"
            ),
            {"talk": talk.id},
        )
        limiting = asyncio.create_task(till.limit("1"))
        await until(lambda: waits_for_calls(till), what="the limit to wait")
        assert await till.counters() == {}
    await limiting
    assert await till.counters() == {("platform", 0, "2031-05-01"): (0, Decimal("0.5"))}
    assert await till.settle_left() == 1
    assert await till.counters() == {("platform", 0, "2031-05-01"): (Decimal("0.5"), 0)}


async def test_a_call_that_waits_while_a_counter_is_begun_sees_its_limit(till: Till):
    talk = await till.desk.conversation()
    counters = CounterRepository()
    wanted = SetBudget(monthly_limit_usd=Decimal("0.4"))
    async with till.core.db.transaction() as tx:
        await counters.lock_calls(tx)
        calling = asyncio.create_task(till.desk.complete(talk))
        await until(lambda: waits_for_calls(till), what="the call to wait")
        await counters.set_budget(tx, wanted, till.clock.now)
        key = platform_key(date(2031, 5, 1))
        await counters.begin(tx, key, date(2031, 6, 1))
    with pytest.raises(BudgetExhausted):
        await calling
    assert till.gateway.requests == []

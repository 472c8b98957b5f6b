"""Thresholds of the monthly budget: each is told once a month, whatever crosses it."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.notifications import Severity
from tests.core.costs.conftest import Till
from tests.fakes.gateway import COST, Killed


async def crossed(till: Till) -> list[float]:
    """Return the thresholds that were told, the same by every way."""
    events = await till.events("budget.threshold")
    told = [one["threshold"] for one in events]
    assert [one[2]["threshold"] for one in till.notifier.told] == told
    alerts = await till.events("system.alert")
    assert [one["message"] for one in alerts] == [one[0] for one in till.notifier.told]
    assert len((await till.core.costs.summary()).alerts) == len(told)
    return told


async def test_each_threshold_is_told_once_though_twenty_commits_cross_it_at_once(till: Till):
    till.gateway.worst_case = COST
    agents = await till.desk.agents(*(f"A{n}" for n in range(20)))
    among = [await till.desk.conversation(agent) for agent in agents]
    await till.limit("0.20", 50, 80, 100, 150)
    held = [till.gateway.hold("word") for _ in among]
    running = [asyncio.create_task(till.desk.complete(talk)) for talk in among]
    await asyncio.gather(*(one.entered.wait() for one in held))
    for one in held:
        one.released.set()
    await asyncio.gather(*running)
    assert await crossed(till) == [50, 80, 100]
    assert [one[1] for one in till.notifier.told] == [
        Severity.WARNING, Severity.WARNING, Severity.CRITICAL,
    ]  # fmt: skip
    [first, *_] = await till.events("budget.threshold")
    assert first == {
        "threshold": 50, "percent_used": 50, "current_spend": 0.1, "monthly_limit": 0.2,
    }  # fmt: skip
    assert await till.upkeep() == 0


async def test_one_call_may_cross_several_and_another_limit_crosses_none_again(till: Till):
    [ada] = await till.desk.agents("Ada")
    talk = await till.desk.conversation(ada)
    await till.limit("0.01", 20, 60, 120, hard_stop=False)
    await till.desk.complete(talk)
    assert await crossed(till) == [20, 60]
    await till.limit("100", 20, 60, 120, hard_stop=False)
    await till.limit("0.01", 20, 60, 120, hard_stop=False)
    await till.limit("0", 20)
    await till.limit("0.01", 20, 60, 120, hard_stop=False)
    assert await crossed(till) == [20, 60]
    await till.desk.complete(talk, turn=2)
    assert await crossed(till) == [20, 60, 120]
    till.clock.pass_days(31)
    await till.desk.complete(talk, turn=3)
    assert await crossed(till) == [20, 60, 120, 20, 60]


async def test_a_limit_below_what_is_spent_tells_at_once(till: Till):
    talk = await till.desk.conversation()
    await till.desk.complete(talk)
    assert await crossed(till) == []
    await till.limit("0.012", 80, 90)
    assert await crossed(till) == [80]


async def test_a_call_that_was_cut_is_told_of_by_upkeep(till: Till):
    talk = await till.desk.conversation()
    await till.limit("0.5", 100)
    till.gateway.then(Killed())
    with pytest.raises(Killed):
        await till.desk.complete(talk)
    await till.core.conversations.end(talk.id, LOCAL_PRINCIPAL)
    assert await crossed(till) == []
    assert await asyncio.gather(till.upkeep(), till.upkeep()) in ([1, 0], [0, 1], [1, 1])
    assert await crossed(till) == [100]


async def test_a_threshold_of_nothing_is_told_with_the_first_cent(till: Till):
    talk = await till.desk.conversation()
    await till.limit("10", 0)
    assert await crossed(till) == []
    await till.desk.complete(talk)
    assert await crossed(till) == [0]
    assert (await till.core.costs.budget()).percent_used == Decimal("0.1")

"""Thresholds: crossed once, after as long as they say, and again only after falling back."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from schema.domain.triggers import Metric, Trigger
from schema.payloads.triggers import CheckInput
from tests.harness.triggers import Triggers


class Gauge:
    """A budget that a test sets."""

    def __init__(self) -> None:
        self.percent: float | None = None

    async def percent_used(self, tx: object) -> float | None:
        return self.percent


@pytest.fixture
def gauge(triggers: Triggers) -> Gauge:
    gauge = Gauge()
    triggers.core.workforce.triggers.desks.budget = gauge
    return gauge


async def watch(triggers: Triggers, **config: Any) -> Trigger:
    values = {"metric": "budget_percent", "threshold": 80, **config}
    return await triggers.make("threshold", values)


async def look(triggers: Triggers, every: int = 60) -> int:
    return (await triggers.core.thresholds.check(CheckInput(every_seconds=every))).crossed


async def test_it_fires_on_crossing_and_again_after_falling_back(triggers: Triggers, gauge: Gauge):
    trigger = await watch(triggers)
    crossed: list[int] = []
    for percent in (None, 70, 80, 81, 95, 81, 80, 90):
        gauge.percent = percent
        crossed.append(await look(triggers))
    assert crossed == [0, 0, 0, 1, 0, 0, 0, 1]
    runs = await triggers.runs(trigger)
    assert [run.firing_key for run in runs] == ["crossing-1", "crossing-2"]
    assert runs[0].event_data["value"] == 81
    await triggers.idle()
    assert len(triggers.engine.triggers.fired) == 2


async def test_it_must_hold_for_as_long_as_it_says(triggers: Triggers, gauge: Gauge):
    await watch(triggers, for_seconds=300)
    gauge.percent = 90
    assert await look(triggers) == 0
    async with triggers.core.db.transaction() as tx:
        await tx.conn.execute(
            text("UPDATE triggers SET over_since = over_since - interval '299 seconds'")
        )
    assert await look(triggers) == 0
    async with triggers.core.db.transaction() as tx:
        await tx.conn.execute(
            text("UPDATE triggers SET over_since = over_since - interval '1 second'")
        )
    assert await look(triggers) == 1
    assert await look(triggers) == 0


@pytest.mark.parametrize(
    ("operator", "values"),
    [
        ("gt", (0, 0, 1)),
        ("gte", (0, 1, 1)),
        ("lt", (1, 0, 0)),
        ("lte", (1, 1, 0)),
        ("eq", (0, 1, 0)),
        ("neq", (1, 0, 1)),
    ],
)
async def test_operators(
    triggers: Triggers, gauge: Gauge, operator: str, values: tuple[int, int, int]
):
    for percent, expected in zip((79, 80, 81), values, strict=True):
        trigger = await watch(triggers, operator=operator)
        gauge.percent = percent
        assert await look(triggers) == expected
        await triggers.core.triggers.delete(trigger.id)


@pytest.mark.parametrize("metric", list(Metric))
async def test_every_metric_can_be_read(triggers: Triggers, gauge: Gauge, metric: Metric):
    gauge.percent = 5
    trigger = await watch(triggers, metric=metric.value, operator="gte", threshold=0)
    assert await look(triggers) == 1
    [run] = await triggers.runs(trigger)
    assert isinstance(run.event_data["value"], int | float)


async def test_the_queue_is_what_waits(triggers: Triggers):
    trigger = await watch(triggers, metric="queue_depth", operator="eq", threshold=2)
    for status in ("pending", "queued", "in_progress", "completed"):
        await triggers.task(status=status)
    await triggers.task(status="failed")
    assert await look(triggers) == 1
    failed = await watch(triggers, metric="failed_tasks_1h", operator="eq", threshold=1)
    assert await look(triggers) == 1
    assert len(await triggers.runs(trigger)) == len(await triggers.runs(failed)) == 1


async def test_a_change_or_a_toggle_forgets_that_it_had_crossed(triggers: Triggers, gauge: Gauge):
    trigger = await watch(triggers)
    gauge.percent = 90
    assert await look(triggers) == 1
    await triggers.core.triggers.toggle(trigger.id, False)
    assert await look(triggers) == 0
    await triggers.core.triggers.toggle(trigger.id, True)
    assert await look(triggers) == 1

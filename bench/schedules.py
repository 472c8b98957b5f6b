"""Two thousand triggers with a schedule each, five of which fire a second.

Each fires once in 400 seconds, and their turns are 0.2 s apart. What was to fire within the time
that is watched is compared with the rows: their keys are the nominal times.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from bench.product import Bench
from conclave.container import Core, build_core
from conclave.triggers.commands import CreateTrigger, GivenAction
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.triggers import ActionType, TriggerType
from workflows.engine import TemporalEngine

NUMBER = 2_000
RATE = 5
_EVERY = NUMBER // RATE
_WATCHED_SECONDS = 90
_SETTLE_SECONDS = 120
_AT_ONCE = 8
_CREATE_PER_SECOND = 5
"""A guess on the safe side: the first firing comes after the last one was made."""

_ROWS = text(
    """
    SELECT trigger_id, firing_key, status, finished_at IS NOT NULL AS is_over,
        extract(epoch FROM claimed_at - (event_data->>'scheduled_at')::timestamptz) AS begun_late,
        extract(epoch FROM finished_at - (event_data->>'scheduled_at')::timestamptz) AS over_late
    FROM trigger_runs WHERE trigger_id = ANY(:ids)
    """
)
_COUNTS = text(
    "SELECT (SELECT count(*) FROM events WHERE type = 'trigger.fired') AS told,"
    " (SELECT sum(fire_count) FROM triggers WHERE id = ANY(:ids)) AS counted"
)


@dataclass(frozen=True)
class Firings:
    """What became of those that were due. Lateness in seconds, to the row's end."""

    expected: int
    lost: int
    unexpected: int
    double: int
    """Ends beyond one a firing: of its events or of its trigger's counter."""
    late_median: float
    late_most: float


@dataclass(frozen=True)
class Schedules:
    """What was seen."""

    firings: Firings
    made_seconds: float
    memory_before_mb: float
    memory_after_mb: float
    removed_seconds: float


async def schedules(bench: Bench) -> Schedules:
    """Make, watch and remove them."""
    core = await build_core(bench.settings, engine=TemporalEngine(bench.client), name="bench")
    try:
        before = bench.memory_mb("temporal")
        begun = time.monotonic()
        first = datetime.now(UTC) + timedelta(seconds=NUMBER / _CREATE_PER_SECOND)
        first = first.replace(microsecond=0)
        made = await _make(core, first)
        made_seconds = time.monotonic() - begun
        begin = max(first, datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
        end = begin + timedelta(seconds=_WATCHED_SECONDS)
        await asyncio.sleep((end - datetime.now(UTC)).total_seconds())
        memory = bench.memory_mb("temporal")
        expected = {
            (trigger_id, f"{at:%Y-%m-%dT%H:%M:%SZ}")
            for trigger_id, start in made.items()
            if begin <= (at := _first_after(start, begin)) < end
        }
        await _until_over(core, list(made), expected)
        found = await _judged(core, list(made), expected)
        begun = time.monotonic()
        await _in_batches(core, core.triggers.delete, list(made))
        return Schedules(
            made_seconds=made_seconds,
            firings=found,
            memory_before_mb=before,
            memory_after_mb=memory,
            removed_seconds=time.monotonic() - begun,
        )
    finally:
        await core.close()


def _first_after(start: datetime, begin: datetime) -> datetime:
    while start < begin:
        start += timedelta(seconds=_EVERY)
    return start


async def _make(core: Core, first: datetime) -> dict[int, datetime]:
    """Return the triggers by id, and when each fires first."""
    made: dict[int, datetime] = {}

    async def make(number: int) -> None:
        start = first + timedelta(seconds=number // RATE)
        command = CreateTrigger(
            name=f"number {number}",
            type=TriggerType.INTERVAL,
            config={"every_seconds": _EVERY, "start_at": start.isoformat()},
            action=GivenAction(type=ActionType.SEND_NOTIFICATION, config={"title": "due"}),
        )
        trigger = (await core.triggers.create(command, LOCAL_PRINCIPAL)).trigger
        made[trigger.id] = start

    await _in_batches(core, make, range(NUMBER))
    return made


async def _in_batches(
    core: Core, do: Callable[[int], Awaitable[None]], numbers: Sequence[int]
) -> None:
    """Do it some at a time, each time until the engine was told."""
    for begin in range(0, len(numbers), _AT_ONCE):
        await asyncio.gather(*(do(number) for number in numbers[begin : begin + _AT_ONCE]))
        await core.errands.finish()


async def _until_over(core: Core, ids: list[int], expected: set[tuple[int, str]]) -> None:
    deadline = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < deadline:
        async with core.db.transaction() as tx:
            rows = (await tx.conn.execute(_ROWS, {"ids": ids})).all()
        if expected <= {(row.trigger_id, row.firing_key) for row in rows if row.is_over}:
            return
        await asyncio.sleep(1)


async def _judged(core: Core, ids: list[int], expected: set[tuple[int, str]]) -> Firings:
    async with core.db.transaction() as tx:
        rows = (await tx.conn.execute(_ROWS, {"ids": ids})).all()
        counts = (await tx.conn.execute(_COUNTS, {"ids": ids})).one()
    over = {(row.trigger_id, row.firing_key): float(row.over_late) for row in rows if row.is_over}
    late = [over[key] for key in expected if key in over]
    times = {key for _, key in expected}
    within = {key for key in over if key[1] in times}
    ended = sum(1 for row in rows if row.status in {"success", "failure"})
    return Firings(
        expected=len(expected),
        lost=len(expected - set(over)),
        unexpected=len(within - expected),
        double=max(int(counts.told), int(counts.counted or 0)) - ended,
        late_median=statistics.median(late) if late else -1.0,
        late_most=max(late, default=-1.0),
    )

"""Bringing the engine to what the record says of triggers, and starting their firings.

Every call may be lost: the outbox row that was committed with the change is delivered again by
the relay. Three kinds of targets: a trigger (its schedule), a firing (its run), a rhythm in
seconds (the schedule that looks at the thresholds of that rhythm).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from conclave.db import Database, Transaction
from conclave.errands import Errands
from conclave.errors import ExecutionClosed
from conclave.failpoints import Failpoint, reach
from conclave.mailbox import Mailbox
from conclave.ports.triggers import TriggerEngine
from conclave.triggers import cron
from conclave.triggers.errors import TriggerNotFound
from conclave.triggers.repository import TriggerRepository
from conclave.triggers.run_repository import RunRepository
from conclave.wakeups import WakeUps
from schema.domain.trigger_configs import CronConfig, IntervalConfig
from schema.domain.triggers import ENDS, Trigger, TriggerType
from schema.payloads.triggers import TriggerInput, TriggerSchedule

TRIGGER_TARGET: Final = "trigger"
FIRING_TARGET: Final = "trigger_firing"
RHYTHM_TARGET: Final = "trigger_rhythm"
_AT_ONCE = 50
"""Firings that are started by whoever stored them; the relay starts the others."""
_SIDE_BY_SIDE = 4
"""Schedules that one process tells of at once: each holds a connection for as long as it takes."""


class TriggerDispatch:
    """Keeps schedules and starts firings."""

    def __init__(
        self, db: Database, mailbox: Mailbox, errands: Errands, engine: TriggerEngine
    ) -> None:
        self._db = db
        self._mailbox = mailbox
        self._wakes = WakeUps(mailbox, errands)
        self._engine = engine
        self._triggers = TriggerRepository()
        self._runs = RunRepository()
        self._slots = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def owe_schedule(self, tx: Transaction, trigger_id: int) -> None:
        """Have a trigger's schedule brought to what this transaction says of it."""
        await self._wakes.owe(tx, TRIGGER_TARGET, trigger_id, self.deliver_schedule)

    async def owe_rhythm(self, tx: Transaction, every_seconds: int) -> None:
        """Have the schedule of a rhythm made or removed."""
        await self._wakes.owe(tx, RHYTHM_TARGET, every_seconds, self.deliver_rhythm)

    async def owe_firings(self, tx: Transaction, run_ids: Collection[int]) -> None:
        """Have the runs of stored firings started."""
        for number, run_id in enumerate(run_ids):
            if number < _AT_ONCE:
                await self._wakes.owe(tx, FIRING_TARGET, run_id, self.deliver_firing)
            else:
                await self._mailbox.owe(tx, FIRING_TARGET, run_id)

    async def deliver_schedule(self, trigger_id: int) -> None:
        """Make, change or remove a trigger's schedule, and strike what is owed.

        One delivery of a trigger at a time, whichever process makes it: what is applied last is
        what the record says last. Raises `Unavailable`.
        """
        async with self._slots, self._db.transaction() as tx:
            await self._triggers.alone(tx, f"{TRIGGER_TARGET}-{trigger_id}")
            owed = await self._mailbox.owed(tx, TRIGGER_TARGET, trigger_id)
            trigger = await self._triggers.get(tx, trigger_id)
            if trigger is None and not await self._triggers.exists(tx, trigger_id):
                raise TriggerNotFound(trigger_id)
            if trigger is not None and trigger.type.is_scheduled:
                await self._engine.keep_schedule(schedule_of(trigger, datetime.now(UTC)))
            else:
                await self._engine.remove_schedule(trigger_id)
            await self._mailbox.delivered(tx, owed)

    async def deliver_rhythm(self, every_seconds: int) -> None:
        """Make or remove the schedule of a rhythm, and strike what is owed. As above."""
        async with self._slots, self._db.transaction() as tx:
            await self._triggers.alone(tx, f"{RHYTHM_TARGET}-{every_seconds}")
            owed = await self._mailbox.owed(tx, RHYTHM_TARGET, every_seconds)
            if await self._triggers.with_rhythm(tx, every_seconds):
                await self._engine.keep_checks(every_seconds)
            else:
                await self._engine.remove_checks(every_seconds)
            await self._mailbox.delivered(tx, owed)

    async def deliver_firing(self, run_id: int) -> None:
        """Start a firing's run where it has not ended, and strike what is owed."""
        async with self._db.transaction() as tx:
            run = await self._runs.get(tx, run_id)
            owed = await self._mailbox.owed(tx, FIRING_TARGET, run_id)
        if run is not None and run.status not in ENDS:
            asked = TriggerInput(trigger_id=run.trigger_id, run_id=run_id)
            reach(Failpoint.BEFORE_START, "firing", run_id)
            with suppress(ExecutionClosed):  # it has ended, which the record is about to say
                await self._engine.start_firing(asked, run.firing_key)
        if owed:
            async with self._db.transaction() as tx:
                await self._mailbox.delivered(tx, owed)


def schedule_of(trigger: Trigger, now: datetime) -> TriggerSchedule:
    """Return the schedule that the record wants."""
    if trigger.type is TriggerType.CRON:
        config = CronConfig.model_validate(trigger.config)
        calendar, zone = cron.calendar_of(config, now)
        return TriggerSchedule(
            trigger_id=trigger.id,
            calendar=calendar,
            time_zone=zone,
            jitter_seconds=config.jitter_seconds,
            catch_up=config.catch_up,
            is_paused=not trigger.is_active,
        )
    interval = IntervalConfig.model_validate(trigger.config)
    # Counted from when it was made: a thousand intervals do not all fire at the full minute.
    begin = interval.start_at or trigger.created_at
    return TriggerSchedule(
        trigger_id=trigger.id,
        every_seconds=interval.every_seconds,
        offset_seconds=int(begin.timestamp()) % interval.every_seconds,
        start_at=interval.start_at,
        jitter_seconds=interval.jitter_seconds,
        is_paused=not trigger.is_active,
    )

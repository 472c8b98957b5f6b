"""Carrying a firing out: claimed once, done once, ended once.

What an action stores, the end of the firing, the trigger's counters and the event are one
transaction, on the firing's row lock: a second try finds it ended. A call to somebody else's
server cannot be part of it: it is noted before it is made, and made again only under the same id.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import JsonValue

from conclave.db import Database, Transaction
from conclave.errors import ConclaveError
from conclave.events import EventLog
from conclave.failpoints import Failpoint, reach
from conclave.triggers import cron
from conclave.triggers.actions import Actions, Done
from conclave.triggers.calls import WebhookCaller
from conclave.triggers.commands import NewFiring
from conclave.triggers.repository import TriggerRepository
from conclave.triggers.run_repository import RunRepository
from schema.domain.events import EventDraft, EventType
from schema.domain.trigger_configs import CronConfig, IntervalConfig
from schema.domain.triggers import ENDS, ActionType, RunStatus, Trigger, TriggerRun, TriggerType
from schema.payloads.triggers import (
    ActInput,
    ClaimInput,
    ClaimResult,
    FiringOutcome,
    FiringResult,
    SettleInput,
)

MOST_CALLS = 3
"""Of one firing to somebody's server: two of them were cut by the end of a worker."""


class FiringService:
    """What the workflow of a trigger asks for."""

    def __init__(
        self, db: Database, events: EventLog, actions: Actions, caller: WebhookCaller
    ) -> None:
        self._db = db
        self._events = events
        self._actions = actions
        self._caller = caller
        self._triggers = TriggerRepository()
        self._runs = RunRepository()

    async def claim(self, asked: ClaimInput) -> ClaimResult:
        """Begin a firing or go on with it. May run twice."""
        async with self._db.transaction() as tx:
            trigger = await self._triggers.get(tx, asked.trigger_id)
            if asked.run_id is None:
                run_id = await self._of_schedule(tx, trigger, asked.nominal)
            else:
                run_id = asked.run_id
                if trigger is None:
                    await self._runs.claim(tx, run_id)
                    skipped = Done(RunStatus.SKIPPED, error="The trigger was deleted")
                    await self._finish(tx, asked.trigger_id, run_id, skipped)
            if run_id is None or not await self._runs.claim(tx, run_id):
                return ClaimResult(run_id=None)
            calls_out = trigger is not None and trigger.action.type is ActionType.CALL_WEBHOOK
            return ClaimResult(run_id=run_id, calls_out=calls_out)

    async def _of_schedule(
        self, tx: Transaction, trigger: Trigger | None, nominal: datetime | None
    ) -> int | None:
        """Store the firing a schedule started, or find it; None where nobody wants one."""
        if trigger is None or nominal is None:
            return None
        if not trigger.is_active or not trigger.type.is_scheduled:
            return None  # the schedule is about to be told so
        if trigger.type is TriggerType.CRON:
            config = CronConfig.model_validate(trigger.config)
            if not cron.is_meant(config, nominal):
                return None
            key, catches_up = cron.firing_key(config, nominal), config.catch_up
        else:
            config = IntervalConfig.model_validate(trigger.config)
            key, catches_up = nominal.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), False
        now = datetime.now(UTC)
        is_missed = not catches_up and cron.is_late(nominal, now, config.jitter_seconds)
        data: dict[str, JsonValue] = {
            "scheduled_at": nominal.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "trigger_id": trigger.id,
            "trigger_name": trigger.name,
        }
        new = NewFiring(trigger_id=trigger.id, firing_key=key, event_data=data)
        run_id = await self._runs.insert(tx, new)
        if run_id is None:
            return await self._runs.id_of(tx, trigger.id, key)
        if is_missed:
            skipped = Done(
                RunStatus.SKIPPED, error="Missed: it would have begun more than five minutes late"
            )
            await self._finish(tx, trigger.id, run_id, skipped)
        return run_id

    async def act(self, asked: ActInput) -> FiringResult:
        """Do what the trigger is for. May run twice; what it stores is stored once.

        Raises a retryable `ConclaveError` where another try may help.
        """
        async with self._db.transaction() as tx:
            found = await self._open(tx, asked.run_id)
        if isinstance(found, FiringResult):
            return found
        trigger, run = found
        if trigger.action.type is ActionType.CALL_WEBHOOK:
            return await self._call(trigger, run)
        try:
            async with self._db.transaction() as tx:
                again = await self._open(tx, run.id, lock=True)
                if isinstance(again, FiringResult):
                    return again
                done = await self._actions.carry_out(tx, *again)
                await self._finish(tx, trigger.id, run.id, done)
                return FiringResult(outcome=FiringOutcome(done.status))
        except ConclaveError as error:
            if error.retryable:
                raise
            return await self._fail(trigger.id, run.id, error.message)

    async def _call(self, trigger: Trigger, run: TriggerRun) -> FiringResult:
        if run.attempts >= MOST_CALLS:
            reason = f"The call was cut {run.attempts} times: what became of it is not known"
            return await self._fail(trigger.id, run.id, reason)
        async with self._db.transaction() as tx:
            sealed = await self._triggers.sealed(tx, trigger.id)
            await self._runs.note_sending(tx, run.id)
        done = await self._caller.call(trigger, run, sealed.action_secrets)
        reach(Failpoint.IN_WEBHOOK_DELIVERY, "firing", run.id)
        async with self._db.transaction() as tx:
            await self._finish(tx, trigger.id, run.id, done)
            return await self._as_it_ended(tx, run.id)

    async def settle(self, asked: SettleInput) -> FiringResult:
        """Store that a firing failed for good. May run twice."""
        async with self._db.transaction() as tx:
            run = await self._runs.get(tx, asked.run_id)
        if run is None:
            return FiringResult(outcome=FiringOutcome.NOTHING)
        return await self._fail(run.trigger_id, run.id, asked.reason)

    async def _open(
        self, tx: Transaction, run_id: int, *, lock: bool = False
    ) -> tuple[Trigger, TriggerRun] | FiringResult:
        """Return what is to be carried out, or how it ended."""
        run = await self._runs.get(tx, run_id, lock=lock)
        if run is None:
            return FiringResult(outcome=FiringOutcome.NOTHING)
        if run.status in ENDS:
            return FiringResult(outcome=FiringOutcome(run.status))
        trigger = await self._triggers.get(tx, run.trigger_id)
        if trigger is None:
            skipped = Done(RunStatus.SKIPPED, error="The trigger was deleted")
            await self._finish(tx, run.trigger_id, run_id, skipped)
            return FiringResult(outcome=FiringOutcome.SKIPPED)
        return trigger, run

    async def _fail(self, trigger_id: int, run_id: int, reason: str) -> FiringResult:
        async with self._db.transaction() as tx:
            failed = Done(RunStatus.FAILURE, error=reason)
            await self._finish(tx, trigger_id, run_id, failed)
            return await self._as_it_ended(tx, run_id)

    async def _as_it_ended(self, tx: Transaction, run_id: int) -> FiringResult:
        run = await self._runs.get(tx, run_id)
        assert run is not None
        return FiringResult(outcome=FiringOutcome(run.status))

    async def _finish(self, tx: Transaction, trigger_id: int, run_id: int, done: Done) -> None:
        """End a firing, once: its row, the trigger's counters and the event."""
        ended = await self._runs.finish(
            tx, run_id, done.status, result=done.result, error=done.error, made=done.made
        )
        if ended:
            await self._triggers.count_fired(tx, trigger_id, done.status)
            await self._events.append(tx, [fired(trigger_id, run_id, done.status)])


def fired(trigger_id: int, run_id: int, status: RunStatus) -> EventDraft:
    """Return the event of a firing's end."""
    return EventDraft(
        stream=f"trigger-{trigger_id}",
        type=EventType.TRIGGER_FIRED,
        data={"trigger_id": trigger_id, "run_id": run_id, "status": status.value},
    )

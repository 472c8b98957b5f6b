"""The core's TriggerEngine on Temporal's client: schedules of triggers, and runs of firings.

A schedule carries the trigger's id and nothing else; what it does is looked up when it fires. It
carries it in the clear, unlike every other payload: it stands in the runs' ids too, and a schedule
outlives the key it would be sealed with.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from conclave.errors import ExecutionClosed, Unavailable
from schema.payloads import names
from schema.payloads.triggers import Calendar, CheckInput, Span, TriggerInput, TriggerSchedule
from workflows import visibility
from workflows.policies import FIRING_EXECUTION_TIMEOUT, UPKEEP_TIMEOUT

_ALL: Final = {
    "minute": (0, 59),
    "hour": (0, 23),
    "day_of_month": (1, 31),
    "month": (1, 12),
    "day_of_week": (0, 6),
}
_USUAL_CATCH_UP = timedelta(hours=1)
"""A server that is busy starts late: it must not leave out what it could not start in time. What
begins too late to be wanted is told in the record (`conclave.triggers.cron.is_late`)."""
_CHECK_CATCH_UP = timedelta(seconds=10)
_LONGEST_CATCH_UP = timedelta(days=365)
_CALL_SECONDS = timedelta(seconds=5)
_SIDE_BY_SIDE = 10
_TELL_SECONDS = 2.0
"""How long a list waits for the times of its rows."""
_BELIEVED_SECONDS = 30.0
_MOST_BELIEVED = 10_000


@dataclass(frozen=True)
class _Told:
    """When a schedule fires next, and until when that is believed (monotonic seconds)."""

    next_at: datetime | None
    until: float


class TemporalTriggerEngine:
    """Raises `Unavailable` and `ExecutionClosed` alone."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._told: dict[int, _Told] = {}

    async def keep_schedule(self, wanted: TriggerSchedule) -> None:
        """Make the schedule, or bring the one that is there to what is wanted."""
        self._told.pop(wanted.trigger_id, None)
        given = self._plain(TriggerInput(trigger_id=wanted.trigger_id))
        await self._keep(names.trigger_schedule_id(wanted.trigger_id), _schedule(wanted, given))
        self._told.pop(wanted.trigger_id, None)

    async def remove_schedule(self, trigger_id: int) -> None:
        """Remove it; none is success."""
        self._told.pop(trigger_id, None)
        await self._remove(names.trigger_schedule_id(trigger_id))

    async def keep_checks(self, every_seconds: int) -> None:
        """Make the schedule that looks at the thresholds of one rhythm."""
        given = self._plain(CheckInput(every_seconds=every_seconds))
        await self._keep(names.trigger_checks_id(every_seconds), _checks(every_seconds, given))

    async def remove_checks(self, every_seconds: int) -> None:
        """Remove it; none is success."""
        await self._remove(names.trigger_checks_id(every_seconds))

    async def start_firing(self, asked: TriggerInput, firing_key: str) -> None:
        """Start a firing's run; already running is success."""
        async with _translated():
            await self._client.start_workflow(
                names.TRIGGER_WORKFLOW,
                asked,
                id=names.trigger_workflow_id(asked.trigger_id, firing_key),
                task_queue=names.CONCLAVE_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                search_attributes=visibility.trigger_attributes(),
                static_summary=f"trigger {asked.trigger_id}",
            )

    async def next_times(self, trigger_ids: Collection[int]) -> Mapping[int, datetime]:
        """Return when each fires next: asked side by side, and believed for a while."""
        now = time.monotonic()
        unknown = [one for one in trigger_ids if not self._knows(one, now)]
        if unknown:
            slots = asyncio.Semaphore(_SIDE_BY_SIDE)
            tasks = [asyncio.create_task(self._ask(one, slots)) for one in unknown]
            _, late = await asyncio.wait(tasks, timeout=_TELL_SECONDS)
            for task in late:
                task.cancel()
        found = {one: told.next_at for one in trigger_ids if (told := self._told.get(one))}
        return {one: next_at for one, next_at in found.items() if next_at is not None}

    def _knows(self, trigger_id: int, now: float) -> bool:
        told = self._told.get(trigger_id)
        return (
            told is not None
            and told.until > now
            and (told.next_at is None or told.next_at > datetime.now(UTC))
        )

    async def _ask(self, trigger_id: int, slots: asyncio.Semaphore) -> None:
        handle = self._client.get_schedule_handle(names.trigger_schedule_id(trigger_id))
        async with slots:
            try:
                described = await handle.describe(rpc_timeout=timedelta(seconds=_TELL_SECONDS))
            except (RPCError, RuntimeError):
                self._told.pop(trigger_id, None)
                return
        times = described.info.next_action_times
        if len(self._told) >= _MOST_BELIEVED:
            self._told.clear()
        is_paused = described.schedule.state.paused
        next_at = times[0] if times and not is_paused else None
        self._told[trigger_id] = _Told(next_at, time.monotonic() + _BELIEVED_SECONDS)

    def _plain(self, given: TriggerInput | CheckInput) -> Payload:
        return self._client.data_converter.payload_converter.to_payload(given)

    async def _keep(self, schedule_id: str, wanted: Schedule) -> None:
        async with _translated():
            try:
                await self._client.create_schedule(schedule_id, wanted, rpc_timeout=_CALL_SECONDS)
            except ScheduleAlreadyRunningError:

                async def update(_: ScheduleUpdateInput) -> ScheduleUpdate:
                    return ScheduleUpdate(wanted)

                handle = self._client.get_schedule_handle(schedule_id)
                await handle.update(update, rpc_timeout=_CALL_SECONDS)

    async def _remove(self, schedule_id: str) -> None:
        async with _translated():
            try:
                await self._client.get_schedule_handle(schedule_id).delete(
                    rpc_timeout=_CALL_SECONDS
                )
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise


def _schedule(wanted: TriggerSchedule, given: Payload) -> Schedule:
    """Return a trigger's schedule in Temporal's words."""
    spec = ScheduleSpec(
        jitter=timedelta(seconds=wanted.jitter_seconds) if wanted.jitter_seconds else None,
        time_zone_name=wanted.time_zone,
        start_at=wanted.start_at,
    )
    if wanted.calendar is not None:
        spec.calendars = [_calendar(wanted.calendar)]
    elif wanted.every_seconds is not None:
        spec.intervals = [
            ScheduleIntervalSpec(
                every=timedelta(seconds=wanted.every_seconds),
                offset=timedelta(seconds=wanted.offset_seconds),
            )
        ]
    return Schedule(
        action=ScheduleActionStartWorkflow(
            names.TRIGGER_WORKFLOW,
            given,
            id=names.trigger_schedule_id(wanted.trigger_id),
            task_queue=names.CONCLAVE_QUEUE,
            execution_timeout=FIRING_EXECUTION_TIMEOUT,
            static_summary=f"trigger {wanted.trigger_id}",
            typed_search_attributes=visibility.trigger_attributes(),
        ),
        spec=spec,
        policy=SchedulePolicy(
            overlap=ScheduleOverlapPolicy.SKIP,
            catchup_window=_LONGEST_CATCH_UP if wanted.catch_up else _USUAL_CATCH_UP,
        ),
        state=ScheduleState(paused=wanted.is_paused),
    )


def _checks(every_seconds: int, given: Payload) -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow(
            names.TRIGGER_CHECK_WORKFLOW,
            given,
            id=names.trigger_checks_id(every_seconds),
            task_queue=names.CONCLAVE_QUEUE,
            execution_timeout=UPKEEP_TIMEOUT,
            static_summary=f"thresholds of every {every_seconds} s",
            typed_search_attributes=TypedSearchAttributes(
                [SearchAttributePair(visibility.KIND, "trigger check")]
            ),
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=every_seconds))]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=_CHECK_CATCH_UP),
    )


def _calendar(calendar: Calendar) -> ScheduleCalendarSpec:
    def ranges(name: str, spans: Sequence[Span]) -> list[ScheduleRange]:
        start, end = _ALL[name]
        return [ScheduleRange(one.start, one.end) for one in spans] or [ScheduleRange(start, end)]

    return ScheduleCalendarSpec(
        minute=ranges("minute", calendar.minutes),
        hour=ranges("hour", calendar.hours),
        day_of_month=ranges("day_of_month", calendar.days_of_month),
        month=ranges("month", calendar.months),
        day_of_week=ranges("day_of_week", calendar.days_of_week),
    )


@asynccontextmanager
async def _translated() -> AsyncGenerator[None]:
    """Turn Temporal's errors into the core's."""
    try:
        yield
    except WorkflowAlreadyStartedError as error:
        raise ExecutionClosed("That run is over.") from error
    except (RPCError, RuntimeError) as error:
        raise Unavailable("Temporal cannot be reached.", dependency="temporal") from error

"""The schedules of upkeep, made and kept by every worker that starts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleDescription,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from conclave.crypto import UndecipherableSecret
from schema.payloads import names
from schema.payloads.upkeep import ChoreName, UpkeepInput
from workflows import visibility
from workflows.policies import UPKEEP_TIMEOUT

_KIND: Final = "upkeep"


@dataclass(frozen=True)
class UpkeepSchedule:
    """A group of chores that share a rhythm; `id` is the schedule's and begins its runs' ids."""

    id: str
    every: timedelta
    catch_up: timedelta
    """How late a run may still be started after an outage; older ones are left out."""
    chores: tuple[ChoreName, ...]

    def wanted(self) -> Schedule:
        """Return it in Temporal's words."""
        return Schedule(
            action=ScheduleActionStartWorkflow(
                names.UPKEEP_WORKFLOW,
                UpkeepInput(chores=[chore.value for chore in self.chores]),
                id=self.id,
                task_queue=names.CONCLAVE_QUEUE,
                execution_timeout=UPKEEP_TIMEOUT,
                static_summary=f"upkeep: {', '.join(self.chores)}",
                typed_search_attributes=TypedSearchAttributes(
                    [SearchAttributePair(visibility.KIND, _KIND)]
                ),
            ),
            spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=self.every)]),
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=self.catch_up),
        )


UPKEEP: Final = (
    UpkeepSchedule(
        id="upkeep-minute",
        every=timedelta(minutes=1),
        catch_up=timedelta(seconds=10),
        chores=(
            ChoreName.SEAL_AUDIT_LOG,
            ChoreName.TELL_OVERDUE_TASKS,
            ChoreName.SETTLE_LEFT_CALLS,
            ChoreName.LOOK_AFTER_BUDGETS,
        ),
    ),
    UpkeepSchedule(
        id="upkeep-hour",
        every=timedelta(hours=1),
        catch_up=timedelta(minutes=10),
        chores=(
            ChoreName.PURGE_SESSIONS,
            ChoreName.ANNOUNCE_EXPIRING_SECRETS,
            ChoreName.REMOVE_SCRATCH_WORKSPACES,
            ChoreName.REMOVE_TASK_WORKTREES,
            ChoreName.REMOVE_STRAY_FILES,
        ),
    ),
)


def schedules_for(available: Collection[ChoreName]) -> list[UpkeepSchedule]:
    """Return the schedules with those chores that a build has; none for a group without any."""
    groups = [
        replace(group, chores=tuple(chore for chore in group.chores if chore in available))
        for group in UPKEEP
    ]
    return [group for group in groups if group.chores]


async def keep(client: Client, schedule: UpkeepSchedule) -> None:
    """Make the schedule, or bring the one that is there to what this build wants.

    All workers may do so at once. One that somebody paused stays paused. Raises RPCError.
    """
    wanted = schedule.wanted()
    try:
        await client.create_schedule(schedule.id, wanted)
    except ScheduleAlreadyRunningError:

        async def update(present: ScheduleUpdateInput) -> ScheduleUpdate | None:
            if await _is_as_wanted(client, present.description, wanted):
                return None
            wanted.state = present.description.schedule.state
            return ScheduleUpdate(wanted)

        await client.get_schedule_handle(schedule.id).update(update)


async def _is_as_wanted(client: Client, present: ScheduleDescription, wanted: Schedule) -> bool:
    """Compare what matters: the server fills in the rest, and seals arguments anew each time."""
    there, then = present.schedule.action, wanted.action
    if not isinstance(there, ScheduleActionStartWorkflow):
        return False
    assert isinstance(then, ScheduleActionStartWorkflow)
    return (
        present.schedule.spec.intervals == wanted.spec.intervals
        and present.schedule.policy == wanted.policy
        and (there.workflow, there.task_queue, there.execution_timeout)
        == (then.workflow, then.task_queue, then.execution_timeout)
        and await _opened(client, there) == then.args[0]
    )


async def _opened(client: Client, action: ScheduleActionStartWorkflow) -> object:
    """Return the input a schedule hands over; None where it cannot be read (its key is gone)."""
    payloads = [argument for argument in action.args if isinstance(argument, Payload)]
    try:
        opened: list[object] = await client.data_converter.decode(payloads, [UpkeepInput])
    except (UndecipherableSecret, RuntimeError, ValueError):
        return None
    return opened[0] if opened else None

"""What a run does next: pure code over its plan and how its steps stand."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from schema.domain.pipelines import RunStatus, StepStatus
    from schema.payloads.pipelines import Plan, StepMark

_OVER = (StepStatus.COMPLETED, StepStatus.SKIPPED, StepStatus.FAILED, StepStatus.CANCELLED)


class Decision(NamedTuple):
    """Places in the plan that are passed over and started now, or how the run ends."""

    skip: list[int]
    start: list[int]
    outcome: RunStatus | None = None


def decide(plan: Plan, marks: list[StepMark], now: datetime) -> Decision:
    """Return what comes next; nothing at all says that something is waited for.

    A step starts when all it depends on is completed or skipped, and is skipped where all of that
    was skipped, or where some of it failed or hangs on what failed.
    """
    statuses = [mark.status for mark in marks]
    running = statuses.count(StepStatus.RUNNING)
    if StepStatus.FAILED in statuses and not plan.goes_on:
        return Decision([], [], None if running else RunStatus.FAILED)
    skip = _skipped(plan, statuses)
    for place in skip:
        statuses[place] = StepStatus.SKIPPED
    if all(status in _OVER for status in statuses):
        failed = StepStatus.FAILED in statuses
        # What is passed over is stored first: the run ends in the next round.
        outcome = RunStatus.FAILED if failed else RunStatus.COMPLETED
        return Decision(skip, [], None if skip else outcome)
    ready = [place for place in _ready(plan, statuses) if _may_start(marks[place], now)]
    return Decision(skip, ready[: max(0, plan.max_parallel - running)])


def _skipped(plan: Plan, statuses: list[StepStatus]) -> list[int]:
    """Return the pending steps that are passed over. Each stands behind what it depends on."""
    found: list[int] = []
    seen = list(statuses)
    hangs = [False] * len(seen)
    """Whether something that a step depends on, however far away, has failed."""
    for place, step in enumerate(plan.steps):
        hangs[place] = any(hangs[one] or seen[one] is StepStatus.FAILED for one in step.after)
        idle = bool(step.after) and all(seen[one] is StepStatus.SKIPPED for one in step.after)
        if seen[place] is StepStatus.PENDING and (hangs[place] or idle):
            seen[place] = StepStatus.SKIPPED
            found.append(place)
    return found


def _ready(plan: Plan, statuses: list[StepStatus]) -> list[int]:
    """Return the pending steps that wait for no other."""
    if plan.in_order:
        first = next(place for place, status in enumerate(statuses) if status not in _OVER)
        return [first] if statuses[first] is StepStatus.PENDING else []
    return [
        place
        for place, step in enumerate(plan.steps)
        if statuses[place] is StepStatus.PENDING
        and all(statuses[one] in _OVER for one in step.after)
    ]


def _may_start(mark: StepMark, now: datetime) -> bool:
    """Whether a step does not wait for the time of its next attempt."""
    return mark.due is None or mark.due <= now

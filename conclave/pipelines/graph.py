"""The order of steps: circles in what they depend on, and the plan a run goes by."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from conclave.pipelines.configs import step_config
from schema.domain.pipelines import Execution, OnFailure, PipelineConfig, StepRun
from schema.payloads.pipelines import Plan, PlannedStep


def find_circle(depends_on: Mapping[int, Sequence[int]]) -> list[int] | None:
    """Return the ids of steps that depend on each other, the first one again at the end."""
    done: set[int] = set()
    for start in depends_on:
        path: list[int] = []
        on_path: set[int] = set()
        pending = [(start, iter(depends_on[start]))] if start not in done else []
        while pending:
            step, others = pending[-1]
            if step not in on_path:
                path.append(step)
                on_path.add(step)
            other = next((one for one in others if one in depends_on and one not in done), None)
            if other is None:
                done.add(step)
                on_path.discard(path.pop())
                pending.pop()
            elif other in on_path:
                return [*path[path.index(other) :], other]
            else:
                pending.append((other, iter(depends_on[other])))
    return None


def plan_of(steps: Sequence[StepRun], config: PipelineConfig) -> Plan:
    """Return the plan of a run: each step stands behind what it depends on.

    Sequential is the order of (position, id); what a step then depends on further down does not
    count. Else a step comes as early as that order and what it depends on allow.
    """
    in_order = sorted(steps, key=lambda step: (step.position, step.step_id))
    sequential = config.execution is Execution.SEQUENTIAL or (
        config.execution is None and not any(step.depends_on for step in steps)
    )
    ordered = in_order if sequential else _sorted_by_need(in_order)
    place = {step.step_id: number for number, step in enumerate(ordered)}
    return Plan(
        steps=[
            PlannedStep(
                id=step.step_id,
                after=sorted(
                    {place[one] for one in step.depends_on if place.get(one, number) < number}
                ),
                timeout_seconds=step_config(step.step_type, step.config).timeout_seconds,
            )
            for number, step in enumerate(ordered)
        ],
        in_order=sequential,
        max_parallel=1 if sequential else config.max_parallel,
        goes_on=config.on_failure is OnFailure.CONTINUE,
    )


def _sorted_by_need(steps: Sequence[StepRun]) -> list[StepRun]:
    """Sort so that each step stands behind what it depends on, else as the steps stand."""
    place = {step.step_id: number for number, step in enumerate(steps)}
    needs = [{place[one] for one in step.depends_on if one in place} for step in steps]
    needed_by: list[list[int]] = [[] for _ in steps]
    for number, needed in enumerate(needs):
        for one in needed:
            needed_by[one].append(number)
    ready = [number for number, needed in enumerate(needs) if not needed]
    ordered: list[StepRun] = []
    while ready:
        number = heapq.heappop(ready)
        ordered.append(steps[number])
        for follower in needed_by[number]:
            needs[follower].discard(number)
            if not needs[follower]:
                heapq.heappush(ready, follower)
    return ordered

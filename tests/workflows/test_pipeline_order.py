"""What a run does next, against a model that is simpler: random pipelines, random ends."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from conclave.pipelines.graph import find_circle, plan_of
from schema.domain.pipelines import PipelineConfig, RunStatus, StepRun, StepStatus, StepType
from schema.payloads.pipelines import Plan, PlannedStep, StepMark
from workflows.pipeline_order import decide

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PENDING, RUNNING, FAILED = StepStatus.PENDING, StepStatus.RUNNING, StepStatus.FAILED
COMPLETED, SKIPPED = StepStatus.COMPLETED, StepStatus.SKIPPED
OVER = {COMPLETED, SKIPPED, FAILED}


def step(step_id: int, position: int, *depends_on: int, **config: Any) -> StepRun:
    return StepRun(
        run_id=1, step_id=step_id, name=f"s{step_id}", step_type=StepType.TASK, position=position,
        config=config, agent_id=None, depends_on=list(depends_on), status=PENDING, attempt=0,
        task_ids=[], output=None, error=None, started_at=None, finished_at=None,
    )  # fmt: skip


def ids(plan: Plan) -> list[int]:
    return [one.id for one in plan.steps]


def marks(*statuses: StepStatus) -> list[StepMark]:
    return [StepMark(status=status) for status in statuses]


def test_without_dependencies_steps_go_in_their_order():
    plan = plan_of([step(3, 1), step(1, 2), step(2, 1, timeout_seconds=9)], PipelineConfig())
    assert plan.in_order
    assert ids(plan) == [2, 3, 1]
    assert plan.steps[0].timeout_seconds == 9
    forced = PipelineConfig.model_validate({"execution": "dag"})
    assert not plan_of([step(1, 1)], forced).in_order


def test_a_dag_puts_each_step_behind_what_it_depends_on():
    plan = plan_of([step(1, 1, 4), step(2, 2), step(3, 3, 1, 2), step(4, 4)], PipelineConfig())
    assert not plan.in_order
    assert ids(plan) == [2, 4, 1, 3]
    assert [one.after for one in plan.steps] == [[], [], [1], [0, 2]]


def test_forced_into_their_order_steps_do_not_wait_for_later_ones():
    config = PipelineConfig.model_validate({"execution": "sequential", "max_parallel": 9})
    plan = plan_of([step(1, 1, 2), step(2, 2, 1)], config)
    assert (ids(plan), plan.max_parallel) == ([1, 2], 1)
    assert [one.after for one in plan.steps] == [[], [0]]


@pytest.mark.parametrize(
    ("edges", "found"),
    [
        ({}, None), ({1: [], 2: [1], 3: [1, 2]}, None), ({1: [1]}, [1, 1]),
        ({1: [2], 2: [3], 3: [1]}, [1, 2, 3, 1]), ({1: [], 2: [1, 3], 3: [2]}, [2, 3, 2]),
        ({1: [9]}, None),
    ],
)  # fmt: skip
def test_a_circle_is_found(edges: dict[int, list[int]], found: list[int] | None):
    assert find_circle(edges) == found


def test_a_long_chain_is_no_circle_and_no_recursion():
    edges = {n: [n - 1] for n in range(1, 5000)}
    assert find_circle(edges) is None
    edges[1] = [4999]
    assert find_circle(edges) is not None


def test_an_attempt_waits_for_its_time_and_keeps_the_order():
    plan = Plan(
        steps=[PlannedStep(id=1), PlannedStep(id=2)], in_order=True, max_parallel=1, goes_on=False
    )
    later = StepMark(attempt=1, due=NOW + timedelta(seconds=5))
    assert decide(plan, [later, StepMark()], NOW) == ([], [], None)
    assert decide(plan, [later, StepMark()], NOW + timedelta(seconds=5)).start == [0]
    beside = plan.model_copy(update={"in_order": False})
    assert decide(beside, [later, StepMark()], NOW).start == [1]


def test_an_empty_round_ends_the_run():
    plan = Plan(steps=[PlannedStep(id=1)], in_order=True, max_parallel=1, goes_on=True)
    assert decide(plan, marks(COMPLETED), NOW).outcome is RunStatus.COMPLETED
    assert decide(plan, marks(SKIPPED), NOW).outcome is RunStatus.COMPLETED
    assert decide(plan, marks(FAILED), NOW).outcome is RunStatus.FAILED


class Model:
    """The same rules, step by step and without plans: by ids, one change at a time."""

    def __init__(self, needs: dict[int, set[int]], stops: bool) -> None:
        self.needs = needs
        self.stops = stops
        self.status = dict.fromkeys(needs, PENDING)

    def hangs_on_failure(self, one: int) -> bool:
        return any(
            self.status[other] is FAILED or self.hangs_on_failure(other)
            for other in self.needs[one]
        )

    def skips(self) -> set[int]:
        """Skip one after the other until none is left to skip."""
        skipped: set[int] = set()
        if self.stops and FAILED in self.status.values():
            return skipped
        while True:
            found = next(
                (
                    one
                    for one, needs in self.needs.items()
                    if self.status[one] is PENDING
                    and needs
                    and (
                        all(self.status[other] is SKIPPED for other in needs)
                        or self.hangs_on_failure(one)
                    )
                ),
                None,
            )
            if found is None:
                return skipped
            self.status[found] = SKIPPED
            skipped.add(found)

    def may_start(self) -> set[int]:
        if self.stops and FAILED in self.status.values():
            return set()
        return {
            one
            for one, needs in self.needs.items()
            if self.status[one] is PENDING and all(self.status[other] in OVER for other in needs)
        }


@pytest.mark.parametrize("seed", range(150))
def test_a_random_dag_goes_as_the_model_says(seed: int):
    chance = random.Random(seed)
    count, most = chance.randint(1, 14), chance.randint(1, 5)
    stops = chance.random() < 0.4
    order = list(range(1, count + 1))
    chance.shuffle(order)  # ids tell nothing of the order
    needs = {
        one: set(chance.sample(order[:place], chance.randint(0, min(place, 3))))
        for place, one in enumerate(order)
    }
    config = PipelineConfig.model_validate(
        {
            "execution": "dag",
            "max_parallel": most,
            "on_failure": "stop" if stops else "continue",
        }
    )
    plan = plan_of([step(one, chance.randint(0, 3), *needs[one]) for one in needs], config)
    model, started = Model(needs, stops), set[int]()
    state = marks(*[PENDING] * count)
    for _ in range(10 * count + 10):
        decision = decide(plan, state, NOW)
        assert {plan.steps[place].id for place in decision.skip} == model.skips()
        for place in decision.skip:
            state[place] = StepMark(status=SKIPPED)
        if decision.outcome is not None:
            break
        starting = [plan.steps[place].id for place in decision.start]
        room = most - [mark.status for mark in state].count(RUNNING)
        assert set(starting) <= model.may_start()
        assert len(starting) == min(len(model.may_start()), room)
        assert not started & set(starting), "a step starts once"
        started |= set(starting)
        for place in decision.start:
            # A condition of its own may skip it on the way.
            status = SKIPPED if chance.random() < 0.2 else RUNNING
            state[place] = StepMark(status=status, attempt=1)
            model.status[plan.steps[place].id] = status
        running = [place for place, mark in enumerate(state) if mark.status is RUNNING]
        if running:
            place = chance.choice(running)
            status = FAILED if chance.random() < 0.25 else COMPLETED
            state[place] = StepMark(status=status, attempt=1)
            model.status[plan.steps[place].id] = status
    else:
        raise AssertionError("the run does not end")
    statuses = model.status.values()
    assert RUNNING not in statuses
    assert decision.outcome is (RunStatus.FAILED if FAILED in statuses else RunStatus.COMPLETED)
    if not (stops and FAILED in statuses):
        assert PENDING not in statuses


@pytest.mark.parametrize("seed", range(20))
def test_in_order_one_step_runs_at_a_time(seed: int):
    chance = random.Random(seed)
    config = PipelineConfig.model_validate({"on_failure": "continue"})
    plan = plan_of([step(one, one) for one in range(8)], config)
    state = marks(*[PENDING] * 8)
    for place in range(8):
        assert decide(plan, state, NOW) == ([], [place], None)
        state[place] = StepMark(status=RUNNING)
        assert decide(plan, state, NOW) == ([], [], None)
        state[place] = StepMark(status=chance.choice(sorted(OVER)))
    failed = any(mark.status is FAILED for mark in state)
    assert decide(plan, state, NOW).outcome is (RunStatus.FAILED if failed else RunStatus.COMPLETED)

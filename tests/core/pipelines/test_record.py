"""The record of a run: whatever is asked twice, or late, happens once."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, update

from conclave.db import Transaction
from conclave.errors import Unavailable
from schema.domain.pipelines import RunStatus, StepStatus
from schema.domain.tasks import NewTask, Task, TaskStatus
from schema.payloads.pipelines import FinishReason, FinishRun, StartSteps, StepAttempt
from schema.tables.pipelines import PipelineStepRunRow
from tests.core.pipelines.conftest import Hand
from tests.harness.pipelines import barrier, notify, task, wait, when

RUNNING, PENDING = StepStatus.RUNNING, StepStatus.PENDING


async def test_a_start_that_is_asked_again_after_its_commit_finds_what_was_started(hand: Hand):
    run = await hand.run(a=task(), b=barrier(tasks=[{}, {}]), c=notify(), d=wait(60))
    await hand.begin(run)
    first = await hand.go(run, "a", "b", "c", "d")
    again = await hand.go(run, "a", "b", "c", "d")
    assert [one.status for one in first.steps] == [RUNNING, RUNNING, StepStatus.COMPLETED, RUNNING]
    assert [(one.status, one.attempt) for one in again.steps] == [
        (one.status, one.attempt) for one in first.steps
    ]
    assert len(await hand.tasks.all(hand.core.db)) == 3
    assert len(hand.notifier.told) == 1
    left = again.steps[3].wait_seconds
    assert left is not None
    assert 50 < left <= 60


async def test_a_start_that_is_asked_twice_at_once_starts_once(hand: Hand):
    run = await hand.run(a=task(), b=notify(), c=barrier(tasks=[{}] * 5))
    await hand.begin(run)
    answers = await asyncio.gather(*(hand.go(run, "a", "b", "c") for _ in range(4)))
    assert len(await hand.tasks.all(hand.core.db)) == 6
    assert len(hand.notifier.told) == 1
    assert len({str(answer) for answer in answers}) == 1


async def test_a_start_that_dies_half_way_is_gone_on_with(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
):
    run = await hand.run(a=task(), b=task(), c=task())
    await hand.begin(run)
    add, calls = hand.tasks.add, 0

    async def dies(tx: Transaction, wanted: NewTask) -> Task:
        nonlocal calls
        calls += 1
        made = await add(tx, wanted)
        if calls == 2:
            raise Unavailable("The database cannot be reached.")
        return made

    monkeypatch.setattr(hand.tasks, "add", dies)
    with pytest.raises(Unavailable):
        await hand.go(run, "a", "b", "c")
    assert await hand.statuses(run) == {"a": "running", "b": "pending", "c": "pending"}
    await hand.go(run, "a", "b", "c")
    keys = [one.title for one in await hand.tasks.all(hand.core.db)]
    assert keys == ["a", "b", "c"]


async def test_an_attempt_that_is_not_the_next_one_does_not_start(hand: Hand):
    run = await hand.run(a=task(max_retries=1))
    await hand.begin(run)
    await hand.go(run, "a", attempt=2)
    assert await hand.statuses(run) == {"a": "pending"}
    await hand.go(run, "a")
    await hand.go(run, "a", attempt=2)
    assert len(await hand.tasks.all(hand.core.db)) == 1


async def test_what_ended_is_told_again_to_whoever_asks_again(hand: Hand):
    run = await hand.run(a=task(max_retries=1, retry_delay_seconds=30))
    await hand.begin(run)
    await hand.go(run, "a")
    [made] = await hand.tasks.all(hand.core.db)
    await hand.tasks.end(hand.core.db, made.id, TaskStatus.FAILED, error="x")
    for _ in range(2):
        [news] = (await hand.look(run, "a")).steps
        assert (news.status, news.attempt) == (PENDING, 1)
        assert news.wait_seconds is not None
        assert 20 < news.wait_seconds <= 30


async def test_the_delay_is_linear(hand: Hand):
    run = await hand.run(a=notify(channel="slack", max_retries=5, retry_delay_seconds=25))
    await hand.begin(run)
    delays: list[int] = []
    for attempt in range(1, 7):
        [news] = (await hand.go(run, "a", attempt=attempt)).steps
        delays.append(round(news.wait_seconds or 0))
    assert delays == [25, 50, 60, 60, 60, 0]
    step = (await hand.steps(run))["a"]
    assert (step.status, step.attempt) == (StepStatus.FAILED, 6)


async def test_a_late_look_of_an_earlier_attempt_changes_nothing(hand: Hand):
    run = await hand.run(a=task(max_retries=1, retry_delay_seconds=0))
    await hand.begin(run)
    await hand.go(run, "a")
    [news] = (await hand.look(run, "a", late=True)).steps
    assert news.status is PENDING
    await hand.go(run, "a", attempt=2)
    [news] = (await hand.look(run, "a", attempt=1, late=True)).steps
    assert (news.status, news.attempt) == (RUNNING, 2)
    first, second = await hand.tasks.all(hand.core.db)
    assert (first.status, second.status) == (TaskStatus.CANCELLED, TaskStatus.PENDING)


async def test_a_task_that_ended_in_time_counts_though_the_look_is_late(hand: Hand):
    run = await hand.run(a=task(timeout_seconds=1))
    await hand.begin(run)
    await hand.go(run, "a")
    [made] = await hand.tasks.all(hand.core.db)
    await hand.tasks.end(hand.core.db, made.id, result="done")
    [news] = (await hand.look(run, "a", late=True)).steps
    assert news.status is StepStatus.COMPLETED


async def test_a_wait_is_over_when_its_workflow_says_so(hand: Hand):
    run = await hand.run(a=wait(1000))
    await hand.begin(run)
    await hand.go(run, "a")
    async with hand.core.db.transaction() as tx:
        early = PipelineStepRunRow.started_at - func.make_interval(0, 0, 0, 0, 0, 16, 40)
        await tx.conn.execute(update(PipelineStepRunRow).values(started_at=early))
    assert (await hand.look(run, "a")).steps[0].status is RUNNING
    assert (await hand.look(run, "a", over=True)).steps[0].status is StepStatus.COMPLETED
    assert (await hand.look(run, "a", over=True)).steps[0].status is StepStatus.COMPLETED
    assert (await hand.steps(run))["a"].output == {"waited_seconds": 1000}


async def test_nothing_starts_in_a_run_that_is_over(hand: Hand):
    run = await hand.run(a=task(), b=task())
    await hand.begin(run)
    await hand.go(run, "a")
    await hand.cancel(run)
    steps = await hand.steps(run)
    asked = StartSteps(
        run_id=run.id,
        start=[StepAttempt(step_id=steps["b"].step_id, attempt=1)],
        skip=[steps["b"].step_id],
    )
    assert (await hand.pipelines.record.start(asked)).status is RunStatus.CANCELLED
    assert (await hand.look(run, "a")).status is RunStatus.CANCELLED
    assert (await hand.pipelines.record.begin(run.id)).status is RunStatus.CANCELLED
    assert await hand.statuses(run) == {"a": "cancelled", "b": "cancelled"}
    assert [one.status for one in await hand.tasks.all(hand.core.db)] == [TaskStatus.CANCELLED]


async def test_a_start_and_a_cancel_at_once_leave_no_task_running(hand: Hand):
    for _ in range(5):
        run = await hand.run(a=barrier(tasks=[{}] * 3), b=task())
        await hand.begin(run)
        await asyncio.gather(hand.go(run, "a", "b"), hand.cancel(run))
        assert set((await hand.statuses(run)).values()) == {"cancelled"}
    assert await hand.tasks.open(hand.core.db) == []


async def test_a_run_is_begun_and_finished_once(hand: Hand):
    run = await hand.run(a=barrier())
    begun = await asyncio.gather(*(hand.pipelines.record.begin(run.id) for _ in range(3)))
    assert [one.status for one in begun] == [RunStatus.RUNNING] * 3
    await hand.go(run, "a")
    finish = FinishRun(run_id=run.id, status=RunStatus.COMPLETED)
    late = FinishRun(run_id=run.id, status=RunStatus.FAILED, reason=FinishReason.TIMED_OUT)
    await asyncio.gather(*(hand.pipelines.record.finish(finish) for _ in range(3)))
    assert (await hand.pipelines.record.finish(late)).status is RunStatus.COMPLETED
    assert [one["type"] for one in await hand.told(run)] == [
        "workflow.started",
        "workflow.completed",
    ]


async def test_begun_again_a_run_says_how_far_it_is(hand: Hand):
    run = await hand.run({"timeout_seconds": 500}, a=barrier(), b=wait(60))
    await hand.begin(run)
    await hand.go(run, "a", "b")
    begun = await hand.pipelines.record.begin(run.id)
    assert [one.status for one in begun.steps] == [StepStatus.COMPLETED, RUNNING]
    assert 490 < begun.left_seconds <= 500
    assert begun.steps[1].wait_seconds is not None


async def test_texts_that_grow_too_long_fail_the_step(hand: Hand):
    defined = await hand.define(a=task(title="{{input.x}}", instructions="{{input.x}}{{input.x}}"))
    run = await hand.start(defined, x="x" * 60_000)
    await hand.begin(run)
    await hand.go(run, "a")
    step = (await hand.steps(run))["a"]
    assert step.error == "instructions has 120000 characters, 100000 are allowed"
    assert await hand.tasks.all(hand.core.db) == []


async def test_a_condition_counts_for_the_first_attempt_alone(hand: Hand):
    run = await hand.run(
        a=barrier(),
        b=notify(
            channel="slack", max_retries=1, condition=when("steps.a.status", "eq", "completed")
        ),
    )
    await hand.begin(run)
    await hand.go(run, "a", "b")
    async with hand.core.db.transaction() as tx:
        changed = update(PipelineStepRunRow).where(PipelineStepRunRow.name == "a")
        await tx.conn.execute(changed.values(status="failed"))
    [news] = (await hand.go(run, "b", attempt=2)).steps
    assert news.status is StepStatus.FAILED


async def test_errors_are_bounded(hand: Hand):
    hand.tasks.refuses = "x" * 5000
    run = await hand.run(a=task())
    await hand.begin(run)
    await hand.go(run, "a")
    assert len((await hand.steps(run))["a"].error or "") == 2000

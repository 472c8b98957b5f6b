"""Scenes of pipelines to be recorded. Each returns the ids of its runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from schema.domain.pipelines import Run, RunStatus, StepStatus
from schema.domain.tasks import TaskStatus
from schema.payloads import names
from tests.harness.pipelines import Mill, barrier, task, wait, when
from tests.waiting import until

Scene = Callable[[Mill], Awaitable[list[str]]]


async def pipeline_retried(mill: Mill) -> list[str]:
    """A wait, a skipped step, a task that fails and is tried again; finished."""
    run = await mill.run(
        rest=wait(1),
        no=barrier(condition=when("input.x", "exists")),
        work=task(max_retries=1, retry_delay_seconds=1),
    )
    failing = await mill.task_of(run, "work")
    await mill.tasks.end(mill.core.db, failing, TaskStatus.FAILED, error="x")
    await mill.tasks.end(mill.core.db, await mill.task_of(run, "work", attempt=2))
    await mill.reaches(run, RunStatus.COMPLETED)
    return await _over(mill, run)


async def pipeline_failed(mill: Mill) -> list[str]:
    """A dag whose rest goes on after a step that took too long; finished."""
    run = await mill.run(
        {"on_failure": "continue"},
        a=task(timeout_seconds=1),
        b=barrier("a"),
        c=wait(2),
        d=barrier("b", "c"),
    )
    await mill.reaches(run, RunStatus.FAILED)
    return await _over(mill, run)


async def pipeline_timed_out(mill: Mill) -> list[str]:
    """A run that took too long; finished."""
    run = await mill.run({"timeout_seconds": 1}, rest=wait(60))
    await mill.reaches(run, RunStatus.FAILED)
    return await _over(mill, run)


async def pipeline_cancelled(mill: Mill) -> list[str]:
    """Cancelled in the record, in mid-wait."""
    run = await mill.run(rest=wait(60))
    await mill.step_reaches(run, "rest", StepStatus.RUNNING)
    await mill.cancel(run)
    return await _over(mill, run)


async def pipeline_stopped(mill: Mill) -> list[str]:
    """Temporal's own cancel."""
    run = await mill.run(a=task())
    await mill.task_of(run, "a")
    await mill.handle(run).cancel()
    await mill.reaches(run, RunStatus.CANCELLED)
    return await _over(mill, run)


async def pipeline_continued(mill: Mill) -> list[str]:
    """Long enough to continue as new, finished."""
    run = await mill.run({}, **{f"s{number}": task() for number in range(34)})
    async with mill.agents(lambda one: {}):
        await mill.reaches(run, RunStatus.COMPLETED, timeout=120)
    return await _over(mill, run)


async def pipeline_running(mill: Mill) -> list[str]:
    """Still open, with a task and a wait under way."""
    run = await mill.run({"execution": "dag"}, a=task(), b=wait(3600))
    await mill.task_of(run, "a")
    return [names.pipeline_workflow_id(run.id)]


SCENES: tuple[Scene, ...] = (
    pipeline_retried,
    pipeline_failed,
    pipeline_timed_out,
    pipeline_cancelled,
    pipeline_stopped,
    pipeline_continued,
    pipeline_running,
)


async def _over(mill: Mill, run: Run) -> list[str]:
    async def is_over() -> bool:
        return (await mill.handle(run).describe()).close_time is not None

    await until(is_over, timeout=40, what=f"run {run.id} to be over")
    return [names.pipeline_workflow_id(run.id)]

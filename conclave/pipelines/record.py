"""Runs as their workflows see them: begun, looked at, started step by step, finished.

Everything here may be asked twice, also at once: the run's row is locked first, and a step whose
attempt has begun, or is over, is left as it is and told again.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from conclave.db import Database, Transaction
from conclave.errors import ConclaveError
from conclave.events import EventLog
from conclave.pipelines.configs import ConditionConfig, StepConfig, step_config
from conclave.pipelines.effects import Effect, StepEffects, met, task_output, tasks_failure
from conclave.pipelines.errors import RunNotFound
from conclave.pipelines.graph import plan_of
from conclave.pipelines.rendering import run_events
from conclave.pipelines.run_repository import RunRepository
from conclave.pipelines.templates import steps_named
from schema.domain.pipelines import Run, RunStatus, StepRun, StepStatus, StepType
from schema.domain.tasks import Task
from schema.payloads.pipelines import (
    BegunRun,
    FinishReason,
    FinishRun,
    LookAtRun,
    RunNews,
    StartSteps,
    StepAttempt,
    StepNews,
    WatchedStep,
)

_LONGEST_ERROR = 2000


class RunRecord:
    """What the workflow of a run asks of the record."""

    def __init__(self, db: Database, events: EventLog, effects: StepEffects) -> None:
        self._db = db
        self._events = events
        self._effects = effects
        self._runs = RunRepository()

    async def begin(self, run_id: int) -> BegunRun:
        """Store that a run has begun, and return what is to be done and how far it is."""
        async with self._db.transaction() as tx:
            run = await self._get(tx, run_id)
            if not run.status.is_active:
                return BegunRun(status=run.status)
            begins = run.status is RunStatus.QUEUED
            if begins:
                run = await self._runs.begin(tx, run_id)
            steps = await self._runs.steps(tx, run_id)
            begun = BegunRun(
                status=run.status,
                plan=plan_of(steps, run.config),
                steps=[news_of(step) for step in steps],
                left_seconds=await self._runs.left_seconds(tx, run),
            )
            if begins:
                await self._events.append(tx, run_events(run))
        return begun

    async def look(self, asked: LookAtRun) -> RunNews:
        """Bring the steps that run up to date, and say how they stand."""
        async with self._db.transaction() as tx:
            run = await self._get(tx, asked.run_id)
            watched = {step.step_id: step for step in asked.steps}
            steps = await self._runs.steps(tx, run.id, only=watched)
            if run.status.is_active:
                tasks = (
                    await self._effects.of_run(tx, run.id)
                    if any(step.task_ids for step in steps)
                    else {}
                )
                steps = [
                    await self._bring(tx, step, watched[step.step_id], tasks) for step in steps
                ]
        return RunNews(status=run.status, steps=[news_of(step) for step in steps])

    async def start(self, asked: StartSteps) -> RunNews:
        """Pass over and start steps, each in a transaction of its own."""
        news = await self._skip(asked.run_id, asked.skip)
        for attempt in asked.start:
            run, step = await self._start(asked.run_id, attempt)
            news = RunNews(status=run.status, steps=[*news.steps, news_of(step)])
        return news

    async def finish(self, asked: FinishRun) -> RunNews:
        """End a run: what is left of it is cancelled, with its tasks."""
        async with self._db.transaction() as tx:
            run = await self._get(tx, asked.run_id)
            if run.status.is_active:
                run = await self.end(tx, run, asked.status, await self._why(tx, run, asked))
                await self._events.append(tx, run_events(run))
        return RunNews(status=run.status)

    async def end(self, tx: Transaction, run: Run, status: RunStatus, error: str | None) -> Run:
        """Store the end of a locked run, cancelling what is left of it; no event yet."""
        steps = await self._runs.steps(tx, run.id)
        ended = await self._runs.end(tx, run.id, status, error)
        for step in steps:
            if step.status is StepStatus.RUNNING:
                await self._effects.cancel(tx, step.task_ids, f"Workflow run {run.id} is over")
        return ended

    async def _skip(self, run_id: int, step_ids: Sequence[int]) -> RunNews:
        async with self._db.transaction() as tx:
            run = await self._get(tx, run_id)
            if not step_ids:
                return RunNews(status=run.status)
            if run.status.is_active:
                await self._runs.skip(tx, run_id, step_ids)
            steps = await self._runs.steps(tx, run_id, only=step_ids)
        return RunNews(status=run.status, steps=[news_of(step) for step in steps])

    async def _start(self, run_id: int, asked: StepAttempt) -> tuple[Run, StepRun]:
        async with self._db.transaction() as tx:
            run = await self._get(tx, run_id)
            [step] = await self._runs.steps(tx, run_id, only=[asked.step_id])
            is_next = step.status is StepStatus.PENDING and step.attempt == asked.attempt - 1
            if run.status.is_active and is_next:
                step = await self._begin(tx, run, step, asked.attempt)
        return run, step

    async def _begin(self, tx: Transaction, run: Run, step: StepRun, attempt: int) -> StepRun:
        config = step_config(step.step_type, step.config)
        context = await self._context(tx, run, step)
        if attempt == 1 and not isinstance(config, ConditionConfig) and not met(config, context):
            return await self._runs.set_step(tx, step, StepStatus.SKIPPED)
        step = step.model_copy(update={"attempt": attempt})
        try:
            async with tx.attempt():
                effect = await self._effects.start(tx, run, step, config, context)
        except ConclaveError as error:
            if error.retryable:
                raise
            return await self._fail(tx, step, config, error.message, starts=True)
        return await self._store(tx, step, effect)

    async def _store(self, tx: Transaction, step: StepRun, effect: Effect) -> StepRun:
        return await self._runs.set_step(
            tx,
            step,
            effect.status,
            due_in=effect.due_in,
            due_at=effect.due_at,
            starts=True,
            attempt=step.attempt,
            task_ids=effect.task_ids,
            output=effect.output,
            error=None,
        )

    async def _bring(
        self, tx: Transaction, step: StepRun, watched: WatchedStep, tasks: dict[int, Task]
    ) -> StepRun:
        """Store what has become of a step that runs."""
        if step.status is not StepStatus.RUNNING or step.attempt != watched.attempt:
            return step
        config = step_config(step.step_type, step.config)
        of_step = [tasks[task_id] for task_id in step.task_ids if task_id in tasks]
        if step.task_ids and all(task.has_ended for task in of_step):
            return await self._settle(tx, step, config, tasks)
        if step.step_type is StepType.WAIT and watched.is_over:
            waited = {"waited_seconds": await self._runs.seconds_since_start(tx, step)}
            return await self._runs.set_step(tx, step, StepStatus.COMPLETED, output=waited)
        if watched.is_late:
            await self._effects.cancel(tx, step.task_ids, "The step took too long")
            late = f"The step took longer than {config.timeout_seconds} seconds"
            return await self._fail(tx, step, config, late)
        return step

    async def _settle(
        self, tx: Transaction, step: StepRun, config: StepConfig, tasks: dict[int, Task]
    ) -> StepRun:
        """Store the end of a step whose tasks have ended."""
        ended = [tasks[task_id] for task_id in step.task_ids if task_id in tasks]
        output = task_output(config, ended) if ended else None
        failure = tasks_failure(step, tasks)
        if failure is not None:
            return await self._fail(tx, step, config, failure, output=output)
        return await self._runs.set_step(tx, step, StepStatus.COMPLETED, output=output)

    async def _fail(
        self,
        tx: Transaction,
        step: StepRun,
        config: StepConfig,
        error: str,
        *,
        starts: bool = False,
        output: dict[str, JsonValue] | None = None,
    ) -> StepRun:
        """Store that an attempt failed: another one follows, or the step has failed."""
        again = step.attempt <= config.max_retries
        return await self._runs.set_step(
            tx,
            step,
            StepStatus.PENDING if again else StepStatus.FAILED,
            due_in=config.delay_after(step.attempt) if again else None,
            starts=starts,
            attempt=step.attempt,
            task_ids=step.task_ids,
            output=output,
            error=error[:_LONGEST_ERROR],
        )

    async def _context(self, tx: Transaction, run: Run, step: StepRun) -> dict[str, JsonValue]:
        """Return what conditions and templates of a step may look at, and no more than that."""
        named = steps_named(step.config)
        others = await self._runs.steps(tx, run.id, only=named) if named else []
        steps: dict[str, JsonValue] = {str(other.step_id): _shown(other) for other in others}
        return {"input": run.input, "trigger_data": run.input, "steps": steps}

    async def _why(self, tx: Transaction, run: Run, asked: FinishRun) -> str | None:
        """Return the sentence that a run's end is told with."""
        match asked.reason:
            case FinishReason.TIMED_OUT:
                return f"The run took longer than {run.config.timeout_seconds} seconds"
            case FinishReason.CANCELLED:
                return None
            case FinishReason.BROKEN:
                return "The run could not go on: internal error"
            case FinishReason.STEPS:
                return failure_of(await self._runs.steps(tx, run.id))

    async def _get(self, tx: Transaction, run_id: int) -> Run:
        """Return a run, locked. Raises `RunNotFound`."""
        run = await self._runs.get(tx, run_id, lock=True)
        if run is None:
            raise RunNotFound(run_id)
        return run


def news_of(step: StepRun) -> StepNews:
    """Return how a step stands, without a word of what it is about."""
    left = step.left_seconds
    return StepNews(
        step_id=step.step_id,
        status=step.status,
        attempt=step.attempt,
        wait_seconds=None if left is None else max(0.0, left),
    )


def failure_of(steps: Sequence[StepRun]) -> str | None:
    """Return the first failed step and why, and how many others failed; None for none."""
    failed = sorted(
        (step for step in steps if step.status is StepStatus.FAILED),
        key=lambda step: (step.finished_at is None, step.finished_at, step.step_id),
    )
    if not failed:
        return None
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return f"Step {failed[0].step_id} ({failed[0].name}) failed: {failed[0].error}{more}"


def _shown(step: StepRun) -> dict[str, JsonValue]:
    return {
        "status": step.status.value,
        "output": step.output,
        "error": step.error,
        "duration_ms": step.duration_ms,
    }

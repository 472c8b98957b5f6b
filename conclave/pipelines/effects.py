"""What a step does when it starts, by its type.

Each effect is a row in the transaction that stores the step's start, so that it happens once
however often it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

from conclave.db import Transaction
from conclave.errors import ConclaveError
from conclave.pipelines.conditions import holds
from conclave.pipelines.configs import (
    LONGEST_TEXT,
    LONGEST_TITLE,
    Channel,
    ConditionConfig,
    NotifyConfig,
    ParallelConfig,
    ParallelTask,
    StepConfig,
    TaskConfig,
    TaskWords,
    WaitConfig,
)
from conclave.pipelines.dispatch import TARGET_KIND
from conclave.pipelines.templates import fill, fill_text
from conclave.ports.notifications import Notifier
from conclave.ports.tasks import TaskDesk
from schema.domain.pipelines import Run, StepRun, StepStatus
from schema.domain.tasks import NewTask, Task, TaskOrigin, TaskStatus

Context = Mapping[str, JsonValue]


class StepFailed(ConclaveError):
    """A step cannot do what it is asked; its message is the step's error."""

    code = "step_failed"


@dataclass
class Effect:
    """What starting a step came to."""

    status: StepStatus = StepStatus.COMPLETED
    output: dict[str, JsonValue] | None = None
    task_ids: list[int] = field(default_factory=list[int])
    due_in: float | None = None
    """Seconds until its wait is over."""
    due_at: datetime | None = None
    """The moment at which its wait is over."""


class StepEffects:
    """Makes tasks, tells people, and finds out conditions."""

    def __init__(self, tasks: TaskDesk, notifier: Notifier) -> None:
        self._tasks = tasks
        self._notifier = notifier

    async def start(
        self, tx: Transaction, run: Run, step: StepRun, config: StepConfig, context: Context
    ) -> Effect:
        """Begin an attempt, `step.attempt`. Raises `ConclaveError` where it cannot be begun."""
        match config:
            case TaskConfig():
                return await self._task(tx, run, step, config, context)
            case ParallelConfig():
                return await self._parallel(tx, run, step, config, context)
            case ConditionConfig():
                return Effect(output={"result": met(config, context)})
            case WaitConfig():
                return Effect(
                    status=StepStatus.RUNNING, due_in=config.wait_seconds, due_at=config.until
                )
            case NotifyConfig():
                return await self._notify(tx, run, step, config, context)
            case _:
                raise StepFailed(f"Steps of the type {step.step_type.value} are not known")

    async def of_run(self, tx: Transaction, run_id: int) -> dict[int, Task]:
        """Return the tasks of a run by id."""
        return {task.id: task for task in await self._tasks.of_run(tx, run_id)}

    async def cancel(self, tx: Transaction, task_ids: Sequence[int], reason: str) -> None:
        """Cancel tasks; those that have ended are left as they are."""
        for task_id in task_ids:
            await self._tasks.cancel(tx, task_id, reason)

    async def _task(
        self, tx: Transaction, run: Run, step: StepRun, config: TaskConfig, context: Context
    ) -> Effect:
        wanted = _new_task(run, step, config, context, config.own_retries, step.agent_id)
        task = await self._tasks.add(tx, wanted)
        return Effect(status=StepStatus.RUNNING, task_ids=[task.id])

    async def _parallel(
        self, tx: Transaction, run: Run, step: StepRun, config: ParallelConfig, context: Context
    ) -> Effect:
        if not config.tasks:
            return Effect(output={"tasks": []})
        ids: list[int] = []
        for number, words in enumerate(config.tasks, 1):
            wanted = _new_task(
                run, step, words, context, words.max_retries, _agent_of(words, step), f"/{number}"
            )
            ids.append((await self._tasks.add(tx, wanted)).id)
        return Effect(status=StepStatus.RUNNING, task_ids=ids)

    async def _notify(
        self, tx: Transaction, run: Run, step: StepRun, config: NotifyConfig, context: Context
    ) -> Effect:
        if config.channel_id is not None:
            raise StepFailed(f"Channel {config.channel_id} is not set up")
        if config.channel is not Channel.IN_APP:
            raise StepFailed(f"The channel {config.channel.value} is not set up")
        subject = fill_text(config.subject, context).strip() if config.subject else ""
        ids = await self._notifier.notify(
            tx,
            title=(subject or step.name)[:LONGEST_TITLE],
            message=_filled("body", config.body, context) or "",
            severity=config.severity,
            user_ids=None if config.user_id is None else [config.user_id],
            metadata={
                "workflow_id": run.pipeline_id,
                "workflow_run_id": run.id,
                "step_id": step.step_id,
            },
        )
        return Effect(output={"notification_ids": list(ids)})


def met(config: StepConfig, context: Context) -> bool:
    """Whether a step's condition holds, templates in its value filled; true where it has none."""
    if config.condition is None:
        return True
    value = fill(config.condition.value, context)
    return holds(config.condition.model_copy(update={"value": value}), context)


def task_output(config: StepConfig, tasks: Sequence[Task]) -> dict[str, JsonValue]:
    """Return the output of a step whose tasks have ended."""
    told: list[dict[str, JsonValue]] = [
        {
            "task_id": task.id,
            "status": task.status.value,
            "result": task.result,
            "output_files": [file.model_dump(mode="json") for file in task.output_files],
        }
        for task in tasks
    ]
    return {"tasks": [*told]} if isinstance(config, ParallelConfig) else told[0]


def tasks_failure(step: StepRun, tasks: Mapping[int, Task]) -> str | None:
    """Return why a step whose tasks have ended failed; None where all were completed."""
    for task_id in step.task_ids:
        task = tasks.get(task_id)
        if task is None:
            return f"Task {task_id} is gone"
        if task.status is not TaskStatus.COMPLETED:
            return f"Task {task_id} {task.status.value}" + (f": {task.error}" if task.error else "")
    return None


def _agent_of(words: ParallelTask, step: StepRun) -> int | None:
    return step.agent_id if words.agent_id is None else words.agent_id


def _new_task(
    run: Run,
    step: StepRun,
    words: TaskWords,
    context: Context,
    retries: int | None,
    agent_id: int | None,
    part: str = "",
) -> NewTask:
    title = fill_text(words.title, context).strip() if words.title else ""
    wanted = NewTask(
        title=(title or step.name)[:LONGEST_TITLE],
        description=_filled("description", words.description, context),
        instructions=_filled("instructions", words.instructions, context),
        priority=words.priority,
        agent_id=agent_id,
        required_tools=words.required_tools,
        assigned_by=run.started_by,
        origin=TaskOrigin(
            key=f"pipeline-run-{run.id}/step-{step.step_id}/{step.attempt}{part}",
            workflow_id=run.pipeline_id,
            workflow_run_id=run.id,
            waiter_kind=TARGET_KIND,
            waiter_id=run.id,
            chain_depth=run.chain_depth,
        ),
    )
    return wanted if retries is None else wanted.model_copy(update={"max_retries": retries})


def _filled(name: str, text: str | None, context: Context) -> str | None:
    """Return a text with its templates filled. Raises `StepFailed` where it gets too long."""
    if text is None:
        return None
    filled = fill_text(text, context)
    if len(filled) > LONGEST_TEXT:
        raise StepFailed(f"{name} has {len(filled)} characters, {LONGEST_TEXT} are allowed")
    return filled

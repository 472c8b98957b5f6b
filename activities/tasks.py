"""Activities on the record of tasks. Each may run twice: a second run finds what the first did."""

from __future__ import annotations

from temporalio import activity

from activities.failures import translated
from conclave.tasks.attempts import TaskAttempts
from schema.payloads import names
from schema.payloads.tasks import (
    CloseTaskInput,
    FailTaskInput,
    FailTaskResult,
    LookAtTaskInput,
    LookAtTaskResult,
    RequeueTaskInput,
    TaskSettled,
)


class TaskActivities:
    """Short ones, without heartbeats; `policies.RECORD_TIMEOUT` bounds them."""

    def __init__(self, attempts: TaskAttempts) -> None:
        self._attempts = attempts

    @activity.defn(name=names.LOOK_AT_TASK_ACTIVITY)
    async def look(self, asked: LookAtTaskInput) -> LookAtTaskResult:
        """Say what the record says of a task and its attempt."""
        with translated():
            return await self._attempts.look(asked)

    @activity.defn(name=names.FAIL_TASK_ACTIVITY)
    async def fail(self, asked: FailTaskInput) -> FailTaskResult:
        """Store that the attempt failed, and answer what follows."""
        with translated():
            return await self._attempts.fail(asked)

    @activity.defn(name=names.REQUEUE_TASK_ACTIVITY)
    async def requeue(self, asked: RequeueTaskInput) -> TaskSettled:
        """Give the task back to the dispatcher."""
        with translated():
            await self._attempts.requeue(asked)
        return TaskSettled()

    @activity.defn(name=names.CLOSE_TASK_ACTIVITY)
    async def close(self, asked: CloseTaskInput) -> TaskSettled:
        """Bring the record to a run that was cancelled in Temporal."""
        with translated():
            await self._attempts.close(asked)
        return TaskSettled()

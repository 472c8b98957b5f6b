"""Puts the ids of what runs on every log line of an activity, and says when one has begun."""

from __future__ import annotations

import structlog
from temporalio import activity
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from worker.slots import ActivitySlots


class LogContextInterceptor(Interceptor):
    """Binds workflow_id, run_id, activity and attempt for the time an activity runs."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap the chain."""
        return _LogContext(next)


class _LogContext(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> object:
        info = activity.info()
        with structlog.contextvars.bound_contextvars(
            workflow_id=info.workflow_id,
            run_id=info.workflow_run_id,
            activity=info.activity_type,
            attempt=info.attempt,
        ):
            return await self.next.execute_activity(input)


class TakeUpInterceptor(Interceptor):
    """Tells the slots of activities that the loop has begun one."""

    def __init__(self, slots: ActivitySlots) -> None:
        self._slots = slots

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap the chain."""
        return _TakeUp(next, self._slots)


class _TakeUp(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, slots: ActivitySlots) -> None:
        super().__init__(next)
        self._slots = slots

    async def execute_activity(self, input: ExecuteActivityInput) -> object:
        self._slots.taken_up()
        return await self.next.execute_activity(input)

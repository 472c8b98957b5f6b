"""Scenes of triggers to be recorded (`tests.histories.record`). Each returns its runs' ids."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from temporalio import activity
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.worker import Worker

from activities.failures import translated
from activities.heartbeats import heartbeats
from conclave.errors import Conflict, Unavailable
from schema.payloads import names
from schema.payloads.triggers import (
    ActInput,
    CheckInput,
    CheckResult,
    ClaimInput,
    ClaimResult,
    FiringOutcome,
    FiringResult,
    SettleInput,
    TriggerInput,
)
from tests.harness.stack import Stack
from worker.sandbox import sandboxed_runner
from workflows.trigger import TriggerCheckWorkflow, TriggerWorkflow

_SUCCESS = FiringResult(outcome=FiringOutcome.SUCCESS)
_Step = FiringResult | Exception | asyncio.Event
_Handle = WorkflowHandle[object, object]


class _Scripted:
    """Returns or raises what it was given, one after another.

    An event in the script is set, and then the call waits until it is cancelled.
    """

    def __init__(self, *script: _Step) -> None:
        self._script = list(script)

    @activity.defn(name=names.CLAIM_FIRING_ACTIVITY)
    async def claim(self, asked: ClaimInput) -> ClaimResult:
        return ClaimResult(run_id=asked.run_id or 7, calls_out=True)

    @activity.defn(name=names.ACT_ACTIVITY)
    async def act(self, asked: ActInput) -> FiringResult:
        step = self._script.pop(0)
        with translated():
            if isinstance(step, Exception):
                raise step
        if isinstance(step, asyncio.Event):
            async with heartbeats():
                step.set()
                await asyncio.Event().wait()
        assert isinstance(step, FiringResult)
        return step

    @activity.defn(name=names.SETTLE_FIRING_ACTIVITY)
    async def settle(self, asked: SettleInput) -> FiringResult:
        return FiringResult(outcome=FiringOutcome.FAILURE)

    @activity.defn(name=names.CHECK_THRESHOLDS_ACTIVITY)
    async def check(self, asked: CheckInput) -> CheckResult:
        return CheckResult(checked=3, crossed=1)


async def trigger_retried(stack: Stack) -> list[str]:
    """A schedule's firing that is done at the third try."""
    away = Unavailable("The database is away.")
    script = _Scripted(away, away, _SUCCESS)
    asked = TriggerInput(trigger_id=3)
    async with _running(stack, "trigger-3-2027-01-01T00:00:00Z", script, asked) as handle:
        await handle.result()
    return [handle.id]


async def trigger_refused(stack: Stack) -> list[str]:
    """A stored firing whose action is refused for good."""
    script, asked = _Scripted(Conflict("No.")), TriggerInput(trigger_id=3, run_id=9)
    async with _running(stack, "trigger-3-event-55", script, asked) as handle:
        await handle.result()
    return [handle.id]


async def trigger_cancelled(stack: Stack) -> list[str]:
    """Cancelled in mid-call."""
    begun = asyncio.Event()
    asked = TriggerInput(trigger_id=3, run_id=10)
    async with _running(stack, "trigger-3-event-56", _Scripted(begun), asked) as handle:
        await asyncio.wait_for(begun.wait(), 20)
        await handle.cancel()
        await _ended(handle)
    return [handle.id]


async def trigger_running(stack: Stack) -> list[str]:
    """Still open, in mid-call."""
    begun = asyncio.Event()
    asked = TriggerInput(trigger_id=3, run_id=11)
    async with _running(stack, "trigger-3-event-57", _Scripted(begun), asked) as handle:
        await asyncio.wait_for(begun.wait(), 20)
    return [handle.id]


async def trigger_checked(stack: Stack) -> list[str]:
    """A look at thresholds."""
    asked = CheckInput(every_seconds=60)
    async with _running(stack, "trigger-checks-60", _Scripted(), asked) as handle:
        await handle.result()
    return [handle.id]


SCENES: tuple[Callable[[Stack], Awaitable[list[str]]], ...] = (
    trigger_retried,
    trigger_refused,
    trigger_cancelled,
    trigger_running,
    trigger_checked,
)


@asynccontextmanager
async def _running(
    stack: Stack, workflow_id: str, script: _Scripted, asked: TriggerInput | CheckInput
) -> AsyncGenerator[_Handle]:
    """Run a workflow on this script; its worker leaves at the end."""
    queue = f"recorded-{workflow_id}"
    is_check = isinstance(asked, CheckInput)
    async with Worker(
        stack.client,
        task_queue=queue,
        workflows=[TriggerWorkflow, TriggerCheckWorkflow],
        activities=[script.claim, script.act, script.settle, script.check],
        workflow_runner=sandboxed_runner(),
    ):
        handle: _Handle = await stack.client.start_workflow(
            names.TRIGGER_CHECK_WORKFLOW if is_check else names.TRIGGER_WORKFLOW,
            asked,
            id=workflow_id,
            task_queue=queue,
        )
        yield handle


async def _ended(handle: _Handle) -> None:
    try:
        await asyncio.wait_for(handle.result(), 20)
    except WorkflowFailureError:
        return
    raise AssertionError(f"{handle.id} was expected to fail")

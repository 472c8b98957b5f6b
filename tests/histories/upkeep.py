"""Scenes of upkeep to be recorded (`tests.histories.record`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.worker import Worker

import activities.upkeep as upkeep_activities
from activities.upkeep import UpkeepActivities
from conclave.errors import Unavailable
from schema.payloads import names
from schema.payloads.upkeep import ChoreName, UpkeepInput, UpkeepResult
from tests.harness.stack import Stack
from worker.sandbox import sandboxed_runner
from workflows.upkeep import UpkeepWorkflow

_SEAL, _PURGE = ChoreName.SEAL_AUDIT_LOG, ChoreName.PURGE_SESSIONS
_QUEUE = "recorded-upkeep"


class _Scripted:
    """Returns or raises what it was given, one after another; then nothing is left.

    An event in the script is set, and then the chore does not come back.
    """

    def __init__(self, *script: int | Exception | asyncio.Event) -> None:
        self._script = list(script)

    async def run(self) -> int:
        step = self._script.pop(0) if self._script else 0
        if isinstance(step, Exception):
            raise step
        if isinstance(step, asyncio.Event):
            step.set()
            await asyncio.Event().wait()
            return 0
        return step


async def upkeep_done(stack: Stack) -> list[str]:
    """Two chores, the first in three activities, after two tries that failed."""
    seal = _Scripted(Unavailable("The database is away."), Unavailable("Still away."), 5, 4, 3)
    async with _running(stack, "upkeep-done", seal) as handle:
        await handle.result()
    return [handle.id]


async def upkeep_failed(stack: Stack) -> list[str]:
    """A chore that the worker does not have, and one that is done all the same."""
    async with _running(stack, "upkeep-failed", _Scripted(1), "no_such_chore") as handle:
        await _ended(handle)
    return [handle.id]


async def upkeep_cancelled(stack: Stack) -> list[str]:
    """Cancelled in the middle of a chore."""
    begun = asyncio.Event()
    async with _running(stack, "upkeep-cancelled", _Scripted(1, begun)) as handle:
        await asyncio.wait_for(begun.wait(), 20)
        await handle.cancel()
        await _ended(handle)
    return [handle.id]


async def upkeep_running(stack: Stack) -> list[str]:
    """Still in the second activity of its first chore."""
    begun = asyncio.Event()
    async with _running(stack, "upkeep-running", _Scripted(1, begun)) as handle:
        await asyncio.wait_for(begun.wait(), 20)
    return [handle.id]


SCENES: tuple[Callable[[Stack], Awaitable[list[str]]], ...] = (
    upkeep_done,
    upkeep_failed,
    upkeep_cancelled,
    upkeep_running,
)


@asynccontextmanager
async def _running(
    stack: Stack, workflow_id: str, seal: _Scripted, *chores: str
) -> AsyncGenerator[WorkflowHandle[object, UpkeepResult]]:
    """Run upkeep with these chores first, one batch an activity; its worker leaves at the end."""
    enough, upkeep_activities._ENOUGH_SECONDS = upkeep_activities._ENOUGH_SECONDS, 0
    try:
        async with Worker(
            stack.client,
            task_queue=f"{_QUEUE}-{workflow_id}",
            workflows=[UpkeepWorkflow],
            activities=[UpkeepActivities({_SEAL: seal, _PURGE: _Scripted(2)}).run],
            workflow_runner=sandboxed_runner(),
        ):
            handle: WorkflowHandle[object, UpkeepResult] = await stack.client.start_workflow(
                names.UPKEEP_WORKFLOW,
                UpkeepInput(chores=[*chores, _SEAL, _PURGE]),
                id=workflow_id,
                task_queue=f"{_QUEUE}-{workflow_id}",
                result_type=UpkeepResult,
            )
            yield handle
    finally:
        upkeep_activities._ENOUGH_SECONDS = enough


async def _ended(handle: WorkflowHandle[object, UpkeepResult]) -> None:
    try:
        await asyncio.wait_for(handle.result(), 20)
    except WorkflowFailureError:
        return
    raise AssertionError(f"{handle.id} was expected to fail")

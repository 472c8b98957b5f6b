"""Upkeep: its schedules, its workflow and what an empty minute costs, on a real server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from temporalio.api.enums.v1 import EventType
from temporalio.client import (
    Client,
    ScheduleActionStartWorkflow,
    ScheduleDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from activities.upkeep import UpkeepActivities
from conclave.auditing import AuditLog
from conclave.db import Database
from conclave.errors import Conflict, Unavailable
from conclave.ports.engine import Chore
from schema.payloads import names
from schema.payloads.upkeep import ChoreName, UpkeepInput, UpkeepResult
from tests.harness.stack import Stack
from tests.waiting import until
from worker.main import keep_schedules
from worker.sandbox import sandboxed_runner
from workflows.schedules import UPKEEP, UpkeepSchedule, keep, schedules_for
from workflows.upkeep import UpkeepWorkflow
from workflows.visibility import KIND

SEAL, PURGE = ChoreName.SEAL_AUDIT_LOG, ChoreName.PURGE_SESSIONS
MINUTE = UPKEEP[0]


class Scripted:
    """A chore that does what it is told, then has nothing left."""

    def __init__(self, *script: int | Exception) -> None:
        self._script = list(script)
        self.runs = 0

    async def run(self) -> int:
        self.runs += 1
        step = self._script.pop(0) if self._script else 0
        if isinstance(step, Exception):
            raise step
        return step


@asynccontextmanager
async def worker(client: Client, chores: Mapping[ChoreName, Chore]) -> AsyncGenerator[str]:
    """Run a worker that has these chores, on a queue of its own."""
    queue = f"upkeep-{uuid.uuid4().hex}"
    async with Worker(
        client,
        task_queue=queue,
        workflows=[UpkeepWorkflow],
        activities=[UpkeepActivities(chores).run],
        workflow_runner=sandboxed_runner(),
    ):
        yield queue


async def start(client: Client, queue: str, *chores: str) -> WorkflowHandle[object, UpkeepResult]:
    return await client.start_workflow(
        names.UPKEEP_WORKFLOW,
        UpkeepInput(chores=list(chores)),
        id=queue,
        task_queue=queue,
        search_attributes=TypedSearchAttributes([SearchAttributePair(KIND, "upkeep")]),
        result_type=UpkeepResult,
    )


async def activities_in(handle: WorkflowHandle[object, UpkeepResult]) -> int:
    events = (await handle.fetch_history()).events
    return sum(event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED for event in events)


async def test_chores_are_done_in_order_until_nothing_is_left(stack: Stack):
    seal, purge = Scripted(3, 2), Scripted()
    async with worker(stack.client, {SEAL: seal, PURGE: purge}) as queue:
        handle = await start(stack.client, queue, SEAL, PURGE)
        assert (await handle.result()).done == {SEAL: 5, PURGE: 0}
        assert (seal.runs, purge.runs) == (3, 1)
        assert await activities_in(handle) == 2


async def test_much_work_is_spread_over_activities_and_bounded(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("activities.upkeep._ENOUGH_SECONDS", 0)
    seal = Scripted(*([1] * 100))
    async with worker(stack.client, {SEAL: seal}) as queue:
        handle = await start(stack.client, queue, SEAL)
        assert (await handle.result()).done == {SEAL: 20}
        assert await activities_in(handle) == seal.runs == 20


async def test_a_chore_that_cannot_be_done_just_now_is_tried_again(stack: Stack):
    seal = Scripted(Unavailable("away"), Unavailable("away"), 1)
    async with worker(stack.client, {SEAL: seal}) as queue:
        handle = await start(stack.client, queue, SEAL)
        assert (await handle.result()).done == {SEAL: 1}


@pytest.mark.parametrize("first", ["no_such_chore", SEAL.value])
async def test_a_chore_that_fails_keeps_no_other_from_being_done(stack: Stack, first: str):
    """Unknown here, or refused by the core: neither is tried again."""
    seal, purge = Scripted(Conflict("no")), Scripted(1)
    async with worker(stack.client, {SEAL: seal, PURGE: purge}) as queue:
        handle = await start(stack.client, queue, first, PURGE)
        with pytest.raises(WorkflowFailureError) as failure:
            await asyncio.wait_for(handle.result(), 20)
        cause = failure.value.cause
        assert isinstance(cause, ApplicationError)
        assert cause.type == "chores_failed"
        assert cause.message == f"Not done: {first}"
        assert purge.runs == 2
        assert seal.runs == (first == SEAL)


async def test_a_cancelled_run_ends(stack: Stack):
    arrived, held = asyncio.Event(), asyncio.Event()

    class Holding:
        async def run(self) -> int:
            arrived.set()
            await held.wait()
            return 0

    purge = Scripted()
    async with worker(stack.client, {SEAL: Holding(), PURGE: purge}) as queue:
        handle = await start(stack.client, queue, SEAL, PURGE)
        await asyncio.wait_for(arrived.wait(), 20)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(handle.result(), 20)
        status = (await handle.describe()).status
        held.set()
    assert status is WorkflowExecutionStatus.CANCELED
    assert purge.runs == 0


@pytest.fixture
async def no_schedules(stack: Stack) -> AsyncIterator[None]:
    await forget(stack.client)
    yield
    await forget(stack.client)


async def forget(client: Client) -> None:
    for schedule in UPKEEP:
        try:
            await client.get_schedule_handle(schedule.id).delete()
        except RPCError:
            continue


async def described(client: Client, schedule: UpkeepSchedule = MINUTE) -> ScheduleDescription:
    return await client.get_schedule_handle(schedule.id).describe()


def only_when_triggered(schedule: UpkeepSchedule) -> UpkeepSchedule:
    return replace(schedule, every=timedelta(days=365))


@pytest.mark.usefixtures("no_schedules")
async def test_a_triggered_schedule_seals_the_audit_log(stack: Stack, database: Database):
    async with database.transaction() as tx:
        await AuditLog().record(tx, "tea_made", "tea", 1)
        newest = await tx.conn.scalar(text("SELECT max(id) FROM audit_entries"))
    await keep(stack.client, only_when_triggered(MINUTE))
    await stack.client.get_schedule_handle(MINUTE.id).trigger()

    async def sealed() -> bool:
        async with database.transaction() as tx:
            last = await stack.core.audit._repository.last_seal(tx)
            return last is not None and newest in last.entry_ids

    await until(sealed, timeout=30, what="the seal")
    [action] = (await described(stack.client)).info.recent_actions
    started = action.action
    workflow_id = getattr(started, "workflow_id", "")
    assert workflow_id.startswith("upkeep-minute-")
    handle = stack.client.get_workflow_handle(workflow_id, result_type=UpkeepResult)
    assert (await handle.result()).done[SEAL] >= 1
    run = await handle.describe()
    assert run.search_attributes[names.KIND_ATTRIBUTE] == ["upkeep"]
    assert await run.static_summary() == f"upkeep: {', '.join(MINUTE.chores)}"
    assert await run.memo() == {}


@pytest.mark.usefixtures("no_schedules")
async def test_all_workers_may_keep_the_schedules_at_once(stack: Stack):
    async with asyncio.timeout(30):
        await asyncio.gather(*(keep_schedules(stack.client, stack.parts) for _ in range(4)))
    present = await described(stack.client)
    assert present.schedule.spec.intervals[0].every == timedelta(minutes=1)
    assert present.schedule.policy == MINUTE.wanted().policy
    assert present.info.last_updated_at is None, "an unchanged schedule is left alone"


@pytest.mark.usefixtures("no_schedules")
async def test_a_changed_schedule_is_updated_and_a_paused_one_stays_paused(stack: Stack):
    older = replace(only_when_triggered(MINUTE), chores=(PURGE,))
    await keep(stack.client, older)
    await stack.client.get_schedule_handle(MINUTE.id).pause(note="by hand")
    await keep(stack.client, replace(older, chores=(SEAL, PURGE)))
    present = await described(stack.client)
    assert present.schedule.state.paused
    assert present.schedule.state.note == "by hand"
    assert await chores(stack.client, present) == [SEAL, PURGE]
    await keep(stack.client, MINUTE)
    present = await described(stack.client)
    assert present.schedule.state.paused
    assert present.schedule.spec.intervals[0].every == timedelta(minutes=1)
    assert await chores(stack.client, present) == list(MINUTE.chores)


async def chores(client: Client, present: ScheduleDescription) -> list[str]:
    action = present.schedule.action
    assert isinstance(action, ScheduleActionStartWorkflow)
    [asked] = await client.data_converter.decode(list(action.args), [UpkeepInput])
    return asked.chores


async def test_a_server_that_refuses_for_a_while_does_not_end_the_worker(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
):
    tries: list[str] = []

    async def refuse_once(_client: Client, schedule: UpkeepSchedule) -> None:
        tries.append(schedule.id)
        if len(tries) == 1:
            raise RPCError("away", RPCStatusCode.UNAVAILABLE, b"")

    monkeypatch.setattr("worker.main._SCHEDULE_PAUSE_SECONDS", 0)
    monkeypatch.setattr("workflows.schedules.keep", refuse_once)
    await asyncio.wait_for(keep_schedules(stack.client, stack.parts), 10)
    assert tries[:2] == ["upkeep-minute", "upkeep-minute"]


def test_only_chores_that_a_build_has_are_scheduled():
    assert [(one.id, one.chores) for one in schedules_for({SEAL})] == [("upkeep-minute", (SEAL,))]
    assert schedules_for(set(ChoreName)) == list(UPKEEP)
    assert {chore for one in UPKEEP for chore in one.chores} == set(ChoreName)

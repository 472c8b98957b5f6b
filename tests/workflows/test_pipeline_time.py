"""Pipelines through days and weeks: a server that skips time, and a record in memory."""

from __future__ import annotations

import shutil
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from temporalio import activity
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from conclave.crypto import Keyring, new_key
from conclave.runtime.temporal import SEARCH_ATTRIBUTES
from schema.domain.pipelines import RunStatus, StepStatus
from schema.payloads import names
from schema.payloads.pipelines import (
    BegunRun,
    FinishReason,
    FinishRun,
    LookAtRun,
    PipelineResult,
    PipelineState,
    Plan,
    PlannedStep,
    RunInput,
    RunNews,
    StartSteps,
    StepNews,
)
from worker.sandbox import sandboxed_runner
from workflows.codec import data_converter
from workflows.pipeline import PipelineWorkflow

DAY = timedelta(days=1)
YEAR = 366 * DAY
PENDING, RUNNING, COMPLETED = StepStatus.PENDING, StepStatus.RUNNING, StepStatus.COMPLETED
Handle = WorkflowHandle[object, PipelineResult]


@dataclass
class Record:
    """What the database would hold, on the server's clock."""

    environment: WorkflowEnvironment
    waits: dict[int, timedelta] = field(default_factory=dict[int, timedelta])
    """Steps that wait; the others are tasks."""
    fails: dict[int, list[timedelta]] = field(default_factory=dict[int, list[timedelta]])
    """How long a task's attempts that fail are waited for, in turn."""
    timeout: timedelta = YEAR
    step_timeouts: dict[int, int] = field(default_factory=dict[int, int])
    in_order: bool = True
    status: RunStatus = RunStatus.RUNNING
    steps: dict[int, StepNews] = field(default_factory=dict[int, StepNews])
    times: dict[int, list[datetime]] = field(default_factory=dict[int, list[datetime]])
    """When each step's attempts started."""
    done: set[int] = field(default_factory=set[int])
    """Tasks that somebody has ended."""
    looks: list[datetime] = field(default_factory=list[datetime])
    ended_at: datetime | None = None
    reason: FinishReason | None = None

    @activity.defn(name=names.BEGIN_RUN_ACTIVITY)
    async def begin(self, asked: RunInput) -> BegunRun:
        """Two steps."""
        for step_id in (1, 2):
            self.steps[step_id] = StepNews(step_id=step_id, status=PENDING, attempt=0)
            self.times[step_id] = []
        planned = [
            PlannedStep(id=step_id, timeout_seconds=self.step_timeouts.get(step_id))
            for step_id in self.steps
        ]
        plan = Plan(steps=planned, in_order=self.in_order, max_parallel=2, goes_on=False)
        return BegunRun(
            status=self.status,
            plan=plan,
            steps=[*self.steps.values()],
            left_seconds=self.timeout.total_seconds(),
        )

    @activity.defn(name=names.LOOK_AT_RUN_ACTIVITY)
    async def look(self, asked: LookAtRun) -> RunNews:
        """End what is over."""
        self.looks.append(await self.environment.get_current_time())
        for watched in asked.steps:
            step = self.steps[watched.step_id]
            if watched.is_over or watched.step_id in self.done:
                step = StepNews(step_id=step.step_id, status=COMPLETED, attempt=step.attempt)
            elif watched.is_late:
                step = self._failed(step)
            elif step.wait_seconds is not None:
                now = await self.environment.get_current_time()
                until = self.times[step.step_id][-1] + self.waits[step.step_id]
                left = max(0.0, (until - now).total_seconds())
                step = step.model_copy(update={"wait_seconds": left})
            self.steps[watched.step_id] = step
        return RunNews(
            status=self.status, steps=[self.steps[watched.step_id] for watched in asked.steps]
        )

    @activity.defn(name=names.START_STEPS_ACTIVITY)
    async def start(self, asked: StartSteps) -> RunNews:
        """Start a wait, or a task that fails as often as it is to."""
        now = await self.environment.get_current_time()
        for attempt in asked.start:
            self.times[attempt.step_id].append(now)
            wait = self.waits.get(attempt.step_id)
            step = StepNews(
                step_id=attempt.step_id,
                status=RUNNING,
                attempt=attempt.attempt,
                wait_seconds=None if wait is None else wait.total_seconds(),
            )
            fails = self.fails.get(attempt.step_id, [])
            self.steps[attempt.step_id] = self._failed(step) if fails else step
        return RunNews(
            status=self.status, steps=[self.steps[attempt.step_id] for attempt in asked.start]
        )

    @activity.defn(name=names.FINISH_RUN_ACTIVITY)
    async def finish(self, asked: FinishRun) -> RunNews:
        """End the run."""
        self.ended_at = await self.environment.get_current_time()
        self.status, self.reason = asked.status, asked.reason
        return RunNews(status=self.status)

    def _failed(self, step: StepNews) -> StepNews:
        delays = self.fails.get(step.step_id, [])
        status = PENDING if delays else StepStatus.FAILED
        left = delays.pop(0).total_seconds() if delays else None
        return StepNews(
            step_id=step.step_id, status=status, attempt=step.attempt, wait_seconds=left
        )


@pytest.fixture(scope="module")
async def environment() -> AsyncIterator[WorkflowEnvironment]:
    """A server whose clock runs as soon as nobody has anything to do."""
    server = shutil.which("temporal-test-server", path=str(Path(sys.executable).parent))
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=server, data_converter=data_converter(Keyring.parse(new_key()))
    ) as started:
        await started.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                search_attributes=SEARCH_ATTRIBUTES, namespace=started.client.namespace
            )
        )
        yield started


@pytest.fixture
def record(environment: WorkflowEnvironment) -> Record:
    return Record(environment)


@asynccontextmanager
async def running(record: Record) -> AsyncGenerator[Handle]:
    environment, queue = record.environment, uuid.uuid4().hex
    async with Worker(
        environment.client,
        task_queue=queue,
        workflows=[PipelineWorkflow],
        activities=[record.begin, record.look, record.start, record.finish],
        workflow_runner=sandboxed_runner(),
    ):
        handle: Handle = await environment.client.start_workflow(
            names.PIPELINE_WORKFLOW,
            PipelineState(run_id=5, pipeline_id=3),
            id=f"pipeline-run-{queue}",
            task_queue=queue,
            result_type=PipelineResult,
        )
        yield handle


async def test_a_wait_of_thirty_days_is_one_timer(record: Record):
    record.waits = {1: 30 * DAY, 2: timedelta(0)}
    async with running(record) as handle:
        assert (await handle.result()).status is RunStatus.COMPLETED
        history = await handle.fetch_history()
    waited = record.times[2][0] - record.times[1][0]
    assert 30 * DAY <= waited < 30 * DAY + timedelta(seconds=10)
    # Once for each wait: nothing polls in between.
    assert len(record.looks) == 2
    assert len(history.events) < 70


async def test_wake_ups_do_not_make_a_wait_longer_or_shorter(record: Record):
    record.waits = {1: 30 * DAY, 2: timedelta(0)}
    async with running(record) as handle:
        for _ in range(5):
            await record.environment.sleep(5 * DAY)
            await handle.signal(names.WAKE_SIGNAL)
        assert (await handle.result()).status is RunStatus.COMPLETED
    waited = record.times[2][0] - record.times[1][0]
    assert 30 * DAY <= waited < 30 * DAY + timedelta(seconds=10)
    assert len(record.looks) == 7


async def test_a_run_that_takes_longer_than_it_may_fails_in_mid_wait(record: Record):
    record.waits, record.timeout = {1: 30 * DAY}, DAY
    async with running(record) as handle:
        began = await record.environment.get_current_time()
        assert (await handle.result()).status is RunStatus.FAILED
    assert record.reason is FinishReason.TIMED_OUT
    assert record.ended_at is not None
    assert DAY <= record.ended_at - began + timedelta(seconds=5) < DAY + timedelta(minutes=1)
    assert record.looks == []


async def test_a_wake_up_that_was_lost_costs_ten_minutes_at_most(record: Record):
    async with running(record) as handle:
        await record.environment.sleep(timedelta(minutes=61))
        record.done.add(1)
        ended = await record.environment.get_current_time()
        await record.environment.sleep(timedelta(minutes=11))
        assert record.times[2]
        assert record.times[2][0] - ended <= timedelta(minutes=10)
        assert len(record.looks) <= 9
        record.done.add(2)
        assert (await handle.result()).status is RunStatus.COMPLETED


async def test_attempts_wait_for_their_time(record: Record):
    record.fails = {1: [timedelta(seconds=20), timedelta(seconds=40)]}
    record.done = {1, 2}
    async with running(record) as handle:
        assert (await handle.result()).status is RunStatus.COMPLETED
    first, second, third = record.times[1]
    assert timedelta(seconds=20) <= second - first < timedelta(seconds=25)
    assert timedelta(seconds=40) <= third - second < timedelta(seconds=45)


async def test_a_task_that_takes_too_long_is_late_once(record: Record):
    record.step_timeouts = {1: 3600}
    async with running(record) as handle:
        assert (await handle.result()).status is RunStatus.FAILED
    assert record.steps[1].status is StepStatus.FAILED
    late = record.looks[-1] - record.times[1][0]
    assert timedelta(hours=1) <= late < timedelta(hours=1, seconds=10)
    assert record.times[2] == []


async def test_waits_side_by_side_end_each_at_its_time(record: Record):
    record.waits, record.in_order = {1: 3 * DAY, 2: 30 * DAY}, False
    async with running(record) as handle:
        began = await record.environment.get_current_time()
        assert (await handle.result()).status is RunStatus.COMPLETED
    assert [round((look - began) / DAY) for look in record.looks] == [3, 30]


async def test_a_cancel_in_the_record_ends_a_long_wait(record: Record):
    record.waits = {1: 30 * DAY}
    async with running(record) as handle:
        await record.environment.sleep(DAY)
        record.status = RunStatus.CANCELLED
        await handle.signal(names.WAKE_SIGNAL)
        assert (await handle.result()).status is RunStatus.CANCELLED
    assert record.reason is None, "there is nothing left to end"

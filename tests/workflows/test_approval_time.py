"""The approval workflow through its 24 hours: a server that skips time, and a record in memory."""

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
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from conclave.crypto import Keyring, new_key
from schema.domain.approvals import ApprovalStatus
from schema.payloads import names
from schema.payloads.approvals import (
    ApprovalInput,
    ApprovalResult,
    DecideInput,
    DecisionSignal,
    LookAtApproval,
)
from worker.sandbox import sandboxed_runner
from workflows.approval import ApprovalWorkflow
from workflows.codec import data_converter

DAY = timedelta(hours=24)
PENDING, EXPIRED = ApprovalStatus.PENDING, ApprovalStatus.EXPIRED
Handle = WorkflowHandle[object, ApprovalResult]


@dataclass
class Record:
    """What the database would hold, on the server's clock; it counts who asks."""

    environment: WorkflowEnvironment
    status: ApprovalStatus = PENDING
    expires_at: datetime | None = None
    escalates_at: datetime | None = None
    clock_is_behind: timedelta = timedelta(0)
    takes_signals: bool = True
    looks: list[datetime] = field(default_factory=list[datetime])
    decisions: list[bool] = field(default_factory=list[bool])
    expiries: int = 0
    escalations: list[datetime] = field(default_factory=list[datetime])

    @activity.defn(name=names.LOOK_AT_APPROVAL_ACTIVITY)
    async def look(self, asked: LookAtApproval) -> ApprovalResult:
        """Expire or cancel where that is due."""
        now = await self.environment.get_current_time()
        self.looks.append(now)
        assert self.expires_at is not None
        if self.status is PENDING and asked.cancel:
            self.status = ApprovalStatus.CANCELLED
        elif self.status is PENDING and now - self.clock_is_behind >= self.expires_at:
            self.status, self.expiries = EXPIRED, self.expiries + 1
        elif self._is_to_escalate(now):
            self.escalations.append(now)
        return self._result(asked.approval_id)

    def _is_to_escalate(self, now: datetime) -> bool:
        due = self.escalates_at is not None and now - self.clock_is_behind >= self.escalates_at
        return self.status is PENDING and due and not self.escalations

    def _result(self, approval_id: int) -> ApprovalResult:
        waits = self.status is PENDING and not self.escalations
        return ApprovalResult(
            approval_id=approval_id,
            status=self.status,
            escalates_at=self.escalates_at if waits else None,
        )

    @activity.defn(name=names.DECIDE_APPROVAL_ACTIVITY)
    async def decide(self, asked: DecideInput) -> ApprovalResult:
        """Decide once, where signals may."""
        self.decisions.append(asked.approve)
        if self.takes_signals and self.status is PENDING:
            self.status = ApprovalStatus.APPROVED if asked.approve else ApprovalStatus.REJECTED
        return self._result(asked.approval_id)


@pytest.fixture(scope="module")
async def environment() -> AsyncIterator[WorkflowEnvironment]:
    """A server whose clock runs as soon as nobody has anything to do."""
    server = shutil.which("temporal-test-server", path=str(Path(sys.executable).parent))
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=server, data_converter=data_converter(Keyring.parse(new_key()))
    ) as started:
        yield started


@pytest.fixture
def record(environment: WorkflowEnvironment) -> Record:
    return Record(environment)


@asynccontextmanager
async def asked_for(
    record: Record, *signals: str, escalates_after: timedelta | None = None
) -> AsyncGenerator[Handle]:
    """Start an approval that expires in a day, its signals there before any worker is."""
    environment, queue = record.environment, uuid.uuid4().hex
    now = await environment.get_current_time()
    record.expires_at = now + DAY
    record.escalates_at = None if escalates_after is None else now + escalates_after
    asked = ApprovalInput(approval_id=9, expires_at=record.expires_at, action="send")
    handle: Handle = await environment.client.start_workflow(
        names.APPROVAL_WORKFLOW,
        asked,
        id=f"approval-{queue}",
        task_queue=queue,
        result_type=ApprovalResult,
    )
    for name in signals:
        await handle.signal(name)
    async with Worker(
        environment.client,
        task_queue=queue,
        workflows=[ApprovalWorkflow],
        activities=[record.look, record.decide],
        workflow_runner=sandboxed_runner(),
    ):
        yield handle


def left(record: Record) -> timedelta:
    """Return how long the approval had before it expired, when the record was looked at last."""
    assert record.expires_at is not None
    return record.expires_at - record.looks[-1]


async def test_after_a_day_without_an_answer_it_expires_once(record: Record):
    async with asked_for(record) as handle:
        assert (await handle.result()).status is EXPIRED
    assert record.expiries == 1
    # Once at the start and once when its time was over: nothing polls in between.
    assert len(record.looks) == 2
    assert timedelta(seconds=-10) < left(record) <= timedelta(0)


async def test_a_record_whose_clock_is_behind_is_asked_again_until_it_agrees(record: Record):
    record.clock_is_behind = timedelta(seconds=30)
    async with asked_for(record) as handle:
        assert (await handle.result()).status is EXPIRED
    assert record.expiries == 1
    assert timedelta(seconds=-45) < left(record) <= timedelta(seconds=-30)
    assert len(record.looks) <= 35


async def test_a_decision_in_the_last_second_counts(record: Record):
    async with asked_for(record) as handle:
        await record.environment.sleep(DAY - timedelta(seconds=1))
        assert record.status is PENDING
        await handle.signal(names.APPROVE_SIGNAL, DecisionSignal(reason="just in time"))
        assert (await handle.result()).status is ApprovalStatus.APPROVED
    assert record.decisions == [True]
    assert record.expiries == 0
    assert len(record.looks) == 1


async def test_a_decision_in_the_record_is_learned_of_by_the_wake_up(record: Record):
    async with asked_for(record) as handle:
        await record.environment.sleep(timedelta(hours=12))
        record.status = ApprovalStatus.REJECTED
        await handle.signal(names.WAKE_SIGNAL)
        assert (await handle.result()).status is ApprovalStatus.REJECTED
    assert timedelta(hours=11) < left(record) < timedelta(hours=12)


async def test_a_wake_up_that_was_lost_costs_time_and_nothing_else(record: Record):
    async with asked_for(record) as handle:
        await record.environment.sleep(timedelta(hours=12))
        record.status = ApprovalStatus.APPROVED
        assert (await handle.result()).status is ApprovalStatus.APPROVED
    assert record.expiries == 0


async def test_wake_ups_without_news_do_not_put_the_expiry_off(record: Record):
    async with asked_for(record) as handle:
        for _ in range(5):
            await record.environment.sleep(timedelta(hours=4))
            await handle.signal(names.WAKE_SIGNAL)
        assert (await handle.result()).status is EXPIRED
    assert timedelta(seconds=-10) < left(record) <= timedelta(0)
    assert len(record.looks) == 7


@pytest.mark.parametrize(
    ("signal", "status"),
    [
        (names.APPROVE_SIGNAL, ApprovalStatus.APPROVED),
        (names.REJECT_SIGNAL, ApprovalStatus.REJECTED),
    ],
)
async def test_a_signal_that_comes_before_the_first_look_decides(
    record: Record, signal: str, status: ApprovalStatus
):
    async with asked_for(record, signal) as handle:
        assert (await handle.result()).status is status
    assert record.looks == []


async def test_of_many_signals_the_first_decides(record: Record):
    signals = [names.REJECT_SIGNAL, names.APPROVE_SIGNAL, names.APPROVE_SIGNAL]
    async with asked_for(record, *signals) as handle:
        assert (await handle.result()).status is ApprovalStatus.REJECTED
    assert record.decisions == [False]


async def test_a_signal_that_may_not_decide_changes_nothing(record: Record):
    record.takes_signals = False
    async with asked_for(record, names.APPROVE_SIGNAL) as handle:
        assert (await handle.result()).status is EXPIRED
    assert record.decisions == [True]
    assert timedelta(seconds=-10) < left(record) <= timedelta(0)


async def test_a_cancel_cancels_it_in_the_record(record: Record):
    async with asked_for(record) as handle:
        await record.environment.sleep(timedelta(hours=1))
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert record.status is ApprovalStatus.CANCELLED


HOUR = timedelta(hours=1)


def late(record: Record) -> timedelta:
    """Return how long after its time the one escalation came."""
    [at] = record.escalations
    assert record.escalates_at is not None
    return at - record.escalates_at


async def test_it_escalates_once_at_its_time_and_expires_at_its_own(record: Record):
    async with asked_for(record, escalates_after=HOUR) as handle:
        assert (await handle.result()).status is EXPIRED
    assert timedelta(0) <= late(record) < timedelta(seconds=10)
    assert timedelta(seconds=-10) < left(record) <= timedelta(0)
    # At the start, at the escalation and at the end: nothing polls in between.
    assert len(record.looks) == 3


async def test_a_decision_before_it_stops_the_escalation(record: Record):
    async with asked_for(record, escalates_after=HOUR) as handle:
        await record.environment.sleep(timedelta(minutes=59))
        await handle.signal(names.APPROVE_SIGNAL)
        assert (await handle.result()).status is ApprovalStatus.APPROVED
    await record.environment.sleep(HOUR)
    assert record.escalations == []


async def test_a_decision_after_it_counts(record: Record):
    async with asked_for(record, escalates_after=HOUR) as handle:
        await record.environment.sleep(2 * HOUR)
        assert len(record.escalations) == 1
        record.status = ApprovalStatus.APPROVED
        await handle.signal(names.WAKE_SIGNAL)
        assert (await handle.result()).status is ApprovalStatus.APPROVED
    assert len(record.escalations) == 1


async def test_an_expiry_before_it_wins(record: Record):
    async with asked_for(record, escalates_after=2 * DAY) as handle:
        assert (await handle.result()).status is EXPIRED
    assert record.escalations == []
    assert len(record.looks) == 2


async def test_votes_that_do_not_decide_do_not_put_it_off(record: Record):
    record.takes_signals = False
    async with asked_for(record, escalates_after=HOUR) as handle:
        for _ in range(3):
            await record.environment.sleep(timedelta(minutes=15))
            await handle.signal(names.APPROVE_SIGNAL)
        assert (await handle.result()).status is EXPIRED
    assert timedelta(0) <= late(record) < timedelta(seconds=10)


async def test_a_record_whose_clock_is_behind_escalates_when_it_agrees(record: Record):
    record.clock_is_behind = timedelta(seconds=30)
    async with asked_for(record, escalates_after=HOUR) as handle:
        assert (await handle.result()).status is EXPIRED
    assert timedelta(seconds=30) <= late(record) < timedelta(seconds=45)


async def test_a_signal_before_the_first_look_does_not_lose_the_escalation(record: Record):
    record.takes_signals = False
    async with asked_for(record, names.APPROVE_SIGNAL, escalates_after=HOUR) as handle:
        assert (await handle.result()).status is EXPIRED
    assert timedelta(0) <= late(record) < timedelta(seconds=10)

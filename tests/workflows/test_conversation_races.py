"""The conversation workflow alone: activities that answer when the test wants them to."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError
from temporalio.worker import Worker

from schema.domain.conversations import ConversationKind, ConversationStatus, TurnStrategy
from schema.domain.inbox import InboxItem
from schema.payloads import names
from schema.payloads.agent_turn import CallOutcome, CompleteInput, CompleteResult
from schema.payloads.conversations import (
    AdvanceInput,
    AdvanceOutcome,
    AdvanceResult,
    ConversationResult,
    ConversationState,
    Floor,
    LookInput,
    LookResult,
    SettleInput,
    SettleResult,
)
from tests.waiting import until
from worker.sandbox import sandboxed_runner
from workflows.codec import data_converter
from workflows.conversation import ConversationWorkflow

Handle = WorkflowHandle[object, ConversationResult]


class Stage:
    """The activities. Model calls wait in `calls` for their result; a look says what is set."""

    def __init__(self) -> None:
        self.calls: list[tuple[CompleteInput, asyncio.Future[CompleteResult]]] = []
        self.record = LookResult(
            status=ConversationStatus.ACTIVE, final=False, superseded=False, inbox=[]
        )
        self.looks = 0
        self.may_look = asyncio.Event()
        self.may_look.set()
        self.settled: list[SettleInput] = []

    @activity.defn(name=names.COMPLETE_ACTIVITY)
    async def complete(self, call: CompleteInput) -> CompleteResult:
        result: asyncio.Future[CompleteResult] = asyncio.get_running_loop().create_future()
        self.calls.append((call, result))
        while not result.done():
            activity.heartbeat()
            await asyncio.wait([result], timeout=1)
        return result.result()

    @activity.defn(name=names.LOOK_ACTIVITY)
    async def look(self, asked: LookInput) -> LookResult:
        self.looks += 1
        await self.may_look.wait()
        return self.record

    @activity.defn(name=names.SETTLE_ACTIVITY)
    async def settle(self, asked: SettleInput) -> SettleResult:
        self.settled.append(asked)
        return SettleResult(status=asked.status)

    async def asked(self, number: int) -> CompleteInput:
        """Wait for the call of that number, from 1."""
        await until(lambda: len(self.calls) >= number, what=f"model call {number}")
        return self.calls[number - 1][0]

    async def answer(
        self,
        number: int,
        outcome: CallOutcome = CallOutcome.SPOKEN,
        status: ConversationStatus = ConversationStatus.ACTIVE,
        **fields: object,
    ) -> None:
        """Let the call of that number return."""
        call = await self.asked(number)
        values = {"outcome": outcome, "turn": call.turn, "status": status, **fields}
        self.calls[number - 1][1].set_result(CompleteResult.model_validate(values))


@asynccontextmanager
async def on_stage(address: str, **fields: object) -> AsyncGenerator[tuple[Stage, Handle]]:
    """Run a conversation of agents 1 and 2 on a worker of its own."""
    stage, name = Stage(), uuid.uuid4().hex
    client = await Client.connect(address, data_converter=data_converter(None))
    values = {
        "conversation_id": 1,
        "execution": 1,
        "kind": ConversationKind.CONVERSATION,
        "circle_name": None,
        "floor": Floor(strategy=TurnStrategy.ROUND_ROBIN, agent_ids=[1, 2]),
        "auto_run": True,
        "max_turns": 9,
        "turn_count": 0,
        "status": ConversationStatus.PENDING,
        **fields,
    }
    worker = Worker(
        client,
        task_queue=name,
        workflows=[ConversationWorkflow],
        activities=[stage.complete, stage.look, stage.settle],
        workflow_runner=sandboxed_runner(),
    )
    async with worker:
        yield (
            stage,
            await client.start_workflow(
                names.CONVERSATION_WORKFLOW,
                ConversationState.model_validate(values),
                id=name,
                task_queue=name,
                result_type=ConversationResult,
            ),
        )


async def ends(handle: Handle) -> ConversationResult:
    return await asyncio.wait_for(handle.result(), 20)


async def advance(handle: Handle, item: InboxItem) -> AdvanceResult:
    return await handle.execute_update(
        names.ADVANCE_UPDATE, AdvanceInput(item=item), result_type=AdvanceResult
    )


PAUSES = [(CallOutcome.PAUSED, 1), (CallOutcome.SPOKEN, 2)]


@pytest.mark.parametrize(("outcome", "next_turn"), PAUSES)
async def test_a_resume_told_during_the_call_that_read_the_pause_is_heard(
    temporal_address: str, outcome: CallOutcome, next_turn: int
):
    async with on_stage(temporal_address) as (stage, handle):
        await stage.asked(1)
        await handle.signal(names.WAKE_SIGNAL)
        await until(lambda: stage.looks == 1, what="a look at the resumed conversation")
        await stage.answer(1, outcome, ConversationStatus.PAUSED)
        assert (await stage.asked(2)).turn == next_turn
        await stage.answer(2, status=ConversationStatus.COMPLETED)
        assert (await ends(handle)).turn_count == next_turn


async def test_a_paused_run_waits_until_it_is_woken(temporal_address: str):
    async with on_stage(temporal_address) as (stage, handle):
        stage.record = stage.record.model_copy(update={"status": ConversationStatus.PAUSED})
        await stage.answer(1, CallOutcome.PAUSED, ConversationStatus.PAUSED)
        await until(lambda: stage.looks == 1, what="a second look")
        await handle.signal(names.WAKE_SIGNAL)
        await until(lambda: stage.looks == 2, what="a look after the wake-up")
        assert len(stage.calls) == 1
        stage.record = stage.record.model_copy(update={"status": ConversationStatus.ACTIVE})
        await handle.signal(names.WAKE_SIGNAL)
        await stage.answer(2, status=ConversationStatus.COMPLETED)
        await ends(handle)


async def test_an_end_in_mid_turn_answers_whoever_waits(temporal_address: str):
    async with on_stage(temporal_address, auto_run=False) as (stage, handle):
        waiting = [asyncio.create_task(advance(handle, InboxItem(id=n))) for n in (1, 2)]
        await stage.asked(1)
        stage.record = LookResult(
            status=ConversationStatus.COMPLETED, final=True, superseded=False, inbox=[]
        )
        await handle.signal(names.WAKE_SIGNAL)
        answers = await asyncio.gather(*waiting)
        assert {answer.outcome for answer in answers} == {AdvanceOutcome.REFUSED}
        assert (await ends(handle)).status is ConversationStatus.COMPLETED


async def cancelled(stage: Stage, handle: Handle) -> list[ConversationStatus]:
    """Cancel the run and see it end as cancelled; return how it had settled the record by then."""
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as failure:
        await ends(handle)
    assert isinstance(failure.value.cause, CancelledError)
    return [asked.status for asked in stage.settled]


async def test_a_cancel_settles_the_record_before_the_run_ends(temporal_address: str):
    async with on_stage(temporal_address) as (stage, handle):
        await stage.asked(1)
        assert await cancelled(stage, handle) == [ConversationStatus.CANCELLED]


async def test_a_cancel_answers_whoever_waits(temporal_address: str):
    async with on_stage(temporal_address, auto_run=False) as (stage, handle):
        waiting = asyncio.create_task(advance(handle, InboxItem(id=1)))
        await stage.asked(1)
        assert await cancelled(stage, handle) == [ConversationStatus.CANCELLED]
        assert (await waiting).outcome is AdvanceOutcome.ACCEPTED


@pytest.mark.parametrize("auto_run", [True, False], ids=["in a turn", "between turns"])
async def test_a_cancel_during_a_look_is_a_cancel(temporal_address: str, auto_run: bool):
    async with on_stage(temporal_address, auto_run=auto_run) as (stage, handle):
        if auto_run:
            await stage.asked(1)
        stage.may_look.clear()
        await handle.signal(names.WAKE_SIGNAL)
        await until(lambda: stage.looks == 1, what="a look")
        assert await cancelled(stage, handle) == [ConversationStatus.CANCELLED]
        stage.may_look.set()
        assert len(stage.calls) == int(auto_run)


async def test_requests_are_taken_in_the_order_of_their_rows(temporal_address: str):
    async with on_stage(temporal_address, auto_run=False) as (stage, handle):
        five = asyncio.create_task(advance(handle, InboxItem(id=5)))
        await stage.asked(1)
        late = [InboxItem(id=3), InboxItem(id=5)]
        await stage.answer(1, CallOutcome.BEHIND, waiting=late)
        assert (await stage.asked(2)).inbox_id == 3
        await stage.answer(2)
        assert (await stage.asked(3)).inbox_id == 5
        await stage.answer(3, status=ConversationStatus.COMPLETED)
        assert await five == AdvanceResult(outcome=AdvanceOutcome.SPOKEN, turn=2)
        await ends(handle)


async def test_others_go_on_without_an_agent_that_is_gone(temporal_address: str):
    async with on_stage(temporal_address) as (stage, handle):
        await stage.answer(1, CallOutcome.AGENT_GONE)
        assert (await stage.asked(2)).agent_id == 2
        await stage.answer(2, CallOutcome.AGENT_GONE)
        assert (await ends(handle)).status is ConversationStatus.FAILED
        assert [asked.reason for asked in stage.settled] == ["No agent is left to speak"]


async def test_a_request_for_an_agent_that_is_gone_fails_alone(temporal_address: str):
    async with on_stage(temporal_address, auto_run=False) as (stage, handle):
        asked = asyncio.create_task(advance(handle, InboxItem(id=1, agent_id=1)))
        await stage.answer(1, CallOutcome.AGENT_GONE)
        assert (await asked).outcome is AdvanceOutcome.FAILED
        other = asyncio.create_task(advance(handle, InboxItem(id=2)))
        assert (await stage.asked(2)).agent_id == 2
        await stage.answer(2, status=ConversationStatus.COMPLETED)
        assert (await other).outcome is AdvanceOutcome.SPOKEN
        await ends(handle)

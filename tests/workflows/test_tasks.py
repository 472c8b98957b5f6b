"""Tasks: real PostgreSQL, real Temporal, a scripted model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from temporalio.client import WorkflowExecutionStatus

from conclave.approvals.commands import Decide
from conclave.tasks.commands import DeadLetterFilter, UpdateTask
from conclave.tasks.errors import TransitionRefused
from schema.domain.events import Event, EventType
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.tasks import DeadLetterStatus, Task, TaskPriority, TaskStatus
from schema.payloads.names import task_workflow_id
from schema.tables.conversations import MessageRow
from schema.tables.model_calls import ModelCallRow
from tests.conftest import Apart
from tests.fakes.model_server import Failure, Hang, Received, Reply
from tests.fakes.toolbox import TestTools
from tests.harness.stack import Stack, running_stack
from tests.harness.tasks import agent, open_approvals, reaches, run_ends, shorten, task
from tests.waiting import until


@pytest.fixture(scope="module")
async def tools(tmp_path_factory: pytest.TempPathFactory) -> TestTools:
    directory: Path = tmp_path_factory.mktemp("tools")
    return TestTools(directory / "sent.txt")


@pytest.fixture(scope="module")
async def running(apart: Apart, tools: TestTools) -> AsyncIterator[Stack]:
    async with running_stack(
        apart.postgres_url, apart.temporal_address, toolbox=tools.registry()
    ) as stack:
        yield stack


@pytest.fixture
async def stack(running: Stack, tools: TestTools) -> AsyncIterator[Stack]:
    tools.reset()
    running.model.reset()
    running.model.responder = lambda received: Reply(text="done")
    yield running
    tools.held.set()
    async with running.core.db.transaction() as tx:
        # Nobody of an earlier test takes a later one's work.
        await tx.conn.execute(text("UPDATE agents SET state = 'offline'"))


async def told(stack: Stack, task_id: int) -> list[Event]:
    async with stack.core.db.transaction() as tx:
        return await stack.core.events.of_stream(tx, f"task-{task_id}", after_seq=0)


def calls(*named: tuple[str, str]) -> Reply:
    return Reply(tool_calls=[(name, {"text": text}) for name, text in named])


async def test_a_task_is_worked_on_and_completed(stack: Stack) -> None:
    ada = await agent(stack)
    stack.model.enqueue(calls(("look", "kettle")), Reply(text="tea is made"))
    made = await task(stack, agent_id=ada.id, instructions="use the kettle")
    assert (made.status, made.attempt) == (TaskStatus.ASSIGNED, 1)
    done = await reaches(stack, made.id, TaskStatus.COMPLETED)
    assert done.result == "tea is made"
    assert (done.progress_percent, done.agent_name, done.error) == (100, "Ada", None)
    assert done.started_at is not None
    assert done.completed_at is not None
    assert done.cost_usd > 0
    assert done.cost_tokens > 0
    types = [event.type for event in await told(stack, made.id)]
    assert types == [EventType.TASK_CREATED, EventType.TASK_UPDATED, EventType.TASK_COMPLETED]
    assert await run_ends(stack, made.id) is WorkflowExecutionStatus.COMPLETED
    prompt = stack.model.requests[0].last_user_text
    assert "make tea" in prompt
    assert "use the kettle" in prompt
    history = await stack.client.get_workflow_handle(task_workflow_id(made.id, 1)).fetch_history()
    scheduled = [
        event
        for event in history.events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert len(scheduled) == 3, "two model calls and a tool: nothing else is an activity"


async def test_a_task_without_agent_goes_to_one_that_fits(stack: Stack) -> None:
    await agent(stack, "Without", tools=[])
    made = await task(stack, required_tools=["look"])
    waits = await until(lambda: reason(stack, made.id), what="a reason")
    assert waits is not None
    assert waits.status is TaskStatus.PENDING
    fits = await agent(stack, "Fits", tools=["look", "keep"])
    async with stack.core.db.transaction() as tx:
        await stack.core.tasks.dispatch_soon(tx)
    done = await reaches(stack, made.id, TaskStatus.COMPLETED)
    assert done.agent_id == fits.id
    offered = {tool["function"]["name"] for tool in stack.model.requests[-1].body["tools"]}
    assert "keep" not in offered
    assert "look" in offered


async def reason(stack: Stack, task_id: int) -> Task | None:
    found = await stack.core.tasks.get(task_id)
    return found if found.pending_reason else None


async def test_what_is_full_queues_and_the_most_urgent_goes_first(
    stack: Stack, tools: TestTools
) -> None:
    await agent(stack, most=1)
    stack.model.responder = by_title
    first = await task(stack, title="wait", required_tools=["wait"])
    await until(tools.entered.is_set, what="the tool")
    low = await task(stack, title="low", priority=TaskPriority.LOW)
    high = await task(stack, title="high", priority=TaskPriority.HIGH)
    await reaches(stack, low.id, TaskStatus.QUEUED)
    await reaches(stack, high.id, TaskStatus.QUEUED)
    tools.held.set()
    ended = [await reaches(stack, one.id, TaskStatus.COMPLETED) for one in (first, high, low)]
    times = [one.completed_at for one in ended]
    assert times == sorted(times)  # type: ignore[type-var]  # none of them is None


def by_title(received: Received) -> Reply:
    messages = received.body["messages"]
    waits = "Your task: wait" in str(messages) and messages[-1]["role"] != "tool"
    return calls(("wait", "x")) if waits else Reply(text="done")


async def test_an_agent_that_lacks_a_required_tool_fails_the_task(stack: Stack) -> None:
    ada = await agent(stack, tools=["look"])
    made = await task(stack, agent_id=ada.id, required_tools=["send"])
    failed = await reaches(stack, made.id, TaskStatus.FAILED)
    assert failed.error_type == "tool_mismatch"
    assert stack.model.requests == []
    letters, total = await stack.core.dead_letters.list(
        DeadLetterFilter(statuses=(DeadLetterStatus.PERMANENTLY_FAILED,)), 50, 0
    )
    assert total >= 1
    assert letters[0].task_id == made.id


async def test_a_failed_task_is_tried_again_as_the_next_attempt(stack: Stack) -> None:
    ada = await agent(stack)
    stack.model.enqueue(calls(("keep", "cup")), Failure(400, "no such thing"))
    made = await task(stack, agent_id=ada.id)
    failed = await reaches(stack, made.id, TaskStatus.FAILED)
    assert failed.error_type == "validation"
    letters, _ = await stack.core.dead_letters.list(
        DeadLetterFilter(statuses=tuple(DeadLetterStatus)), 1, 0
    )
    assert [one.attempt for one in letters[0].execution_history] == [1]
    await stack.core.dead_letters.retry(letters[0].id)
    done = await reaches(stack, made.id, TaskStatus.COMPLETED)
    assert (done.attempt, done.retry_count, done.error) == (2, 0, None)
    assert await run_ends(stack, made.id, 2) is WorkflowExecutionStatus.COMPLETED
    transcript = str(stack.model.requests[-1].body["messages"])
    assert "kept" in transcript
    assert "another attempt" in transcript


async def test_a_retryable_failure_waits_and_goes_on(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conclave.tasks.endings._FIRST_DELAY_SECONDS", 0.2)
    monkeypatch.setattr("conclave.conversations.turns.PROVIDER_TRIES", 1)
    ada = await agent(stack)
    stack.model.enqueue(Failure(500, "down", retry_after="0"))
    made = await task(stack, agent_id=ada.id)
    done = await reaches(stack, made.id, TaskStatus.COMPLETED)
    assert (done.attempt, done.retry_count) == (2, 1)
    assert await run_ends(stack, made.id, 1) is WorkflowExecutionStatus.COMPLETED


async def test_retries_are_counted_and_end(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conclave.tasks.endings._FIRST_DELAY_SECONDS", 0.05)
    monkeypatch.setattr("conclave.conversations.turns.PROVIDER_TRIES", 1)
    ada = await agent(stack)
    stack.model.responder = lambda received: Failure(500, "down", retry_after="0")
    made = await task(stack, agent_id=ada.id, max_retries=2)
    failed = await reaches(stack, made.id, TaskStatus.FAILED)
    assert (failed.retry_count, failed.attempt, failed.error_type) == (2, 3, "provider")
    assert len(stack.model.requests) == 3
    types = [event.type for event in await told(stack, made.id)]
    assert types.count(EventType.TASK_FAILED) == 1
    assert types.count(EventType.DEAD_LETTER_ADDED) == 1


async def test_cancel_stops_the_model_call_and_commits_nothing_after(stack: Stack) -> None:
    ada = await agent(stack)
    stack.model.enqueue(Reply(text="too late", delay=8))
    made = await task(stack, agent_id=ada.id)
    await until(lambda: len(stack.model.requests) == 1, what="the call")
    began = time.monotonic()
    cancelled = await stack.core.tasks.cancel_by_hand(made.id, "not wanted")
    assert cancelled.status is TaskStatus.CANCELLED
    assert await run_ends(stack, made.id) is WorkflowExecutionStatus.CANCELED
    assert time.monotonic() - began < 5
    async with stack.core.db.transaction() as tx:
        [(status, reserved, cost)] = await tx.conn.execute(
            select(ModelCallRow.status, ModelCallRow.reserved_usd, ModelCallRow.cost_usd).where(
                ModelCallRow.conversation_id == made.conversation_id
            )
        )
        said = await tx.conn.scalar(
            select(func.count()).where(
                MessageRow.conversation_id == made.conversation_id,
                MessageRow.role == "assistant",
            )
        )
    assert (status, cost, said) == ("unknown", reserved, 0)
    with pytest.raises(TransitionRefused):
        await stack.core.tasks.cancel_by_hand(made.id, None)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(text="too late", delay=30), id="model"),
        pytest.param(Reply(tool_calls=[("wait", {"text": "x"})]), id="tool"),
        pytest.param(Reply(tool_calls=[("send", {"text": "x"})]), id="approval"),
    ],
)
async def test_an_attempt_that_takes_too_long_fails_whatever_it_waits_for(
    stack: Stack, tools: TestTools, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    shorten(stack, monkeypatch)
    ada = await agent(stack)
    stack.model.enqueue(reply)
    made = await task(stack, agent_id=ada.id, max_retries=0)
    failed = await reaches(stack, made.id, TaskStatus.FAILED)
    assert (failed.error_type, failed.result) == ("timeout", None)
    assert await run_ends(stack, made.id) is WorkflowExecutionStatus.COMPLETED
    assert tools.lines() == []
    assert await open_approvals(stack, made.id) == []


async def test_cancel_stops_a_tool(stack: Stack, tools: TestTools) -> None:
    ada = await agent(stack)
    stack.model.enqueue(calls(("wait", "x")))
    made = await task(stack, agent_id=ada.id)
    await until(tools.entered.is_set, what="the tool")
    began = time.monotonic()
    await stack.core.tasks.cancel_by_hand(made.id, None)
    assert await run_ends(stack, made.id) is WorkflowExecutionStatus.CANCELED
    assert time.monotonic() - began < 5
    assert len(stack.model.requests) == 1


async def test_a_cancel_in_temporal_cancels_the_task(stack: Stack) -> None:
    ada = await agent(stack)
    stack.model.enqueue(Hang())
    made = await task(stack, agent_id=ada.id)
    await until(lambda: len(stack.model.requests) == 1, what="the call")
    await stack.client.get_workflow_handle(task_workflow_id(made.id, 1)).cancel()
    cancelled = await reaches(stack, made.id, TaskStatus.CANCELLED)
    assert (cancelled.result, cancelled.attempt) == (None, 1)
    assert await run_ends(stack, made.id) is WorkflowExecutionStatus.CANCELED


async def test_a_change_is_heard_between_two_steps(stack: Stack, tools: TestTools) -> None:
    ada = await agent(stack)
    stack.model.enqueue(calls(("peek", "x")))
    made = await task(stack, agent_id=ada.id)
    await until(tools.entered.is_set, what="the tool")
    await stack.core.tasks.update(made.id, UpdateTask(instructions="green tea, please"))
    await until(lambda: stack.core.errands.is_idle, what="the errands")
    tools.held.set()
    done = await reaches(stack, made.id, TaskStatus.COMPLETED)
    assert done.instructions == "green tea, please"
    assert len(stack.model.requests) == 2
    messages = stack.model.requests[1].body["messages"]
    assert "green tea" in messages[-1]["content"]
    assert messages[-2]["role"] == "tool"


async def test_a_change_that_meets_the_last_reply_is_still_heard(stack: Stack) -> None:
    ada = await agent(stack)
    stack.model.enqueue(Reply(text="black tea", delay=0.7))
    made = await task(stack, agent_id=ada.id)
    await until(lambda: len(stack.model.requests) == 1, what="the call")
    await stack.core.tasks.update(made.id, UpdateTask(description="green tea"))
    done = await reaches(stack, made.id, TaskStatus.COMPLETED)
    assert done.result == "done"
    assert len(stack.model.requests) == 2
    assert "green tea" in stack.model.requests[1].last_user_text


async def test_a_released_task_goes_on_where_it_stopped(stack: Stack, tools: TestTools) -> None:
    ada = await agent(stack)
    stack.model.enqueue(calls(("keep", "cup")), calls(("wait", "x")))
    made = await task(stack, agent_id=ada.id)
    await until(tools.entered.is_set, what="the tool")
    async with stack.core.db.transaction() as tx:
        await tx.conn.execute(
            text("UPDATE agents SET state = 'offline' WHERE id = :id"), {"id": ada.id}
        )
        await stack.core.tasks.release(tx, ada.id, keep_agent=True)
    stopped = await stack.core.tasks.get(made.id)
    assert (stopped.status, stopped.agent_id) == (TaskStatus.PENDING, ada.id)
    assert await run_ends(stack, made.id) is WorkflowExecutionStatus.CANCELED
    async with stack.core.db.transaction() as tx:
        await tx.conn.execute(
            text("UPDATE agents SET state = 'active' WHERE id = :id"), {"id": ada.id}
        )
        await stack.core.tasks.dispatch_soon(tx)
    done = await reaches(stack, made.id, TaskStatus.COMPLETED)
    assert (done.attempt, done.retry_count) == (2, 0)


async def test_an_approval_puts_the_task_into_review(stack: Stack, tools: TestTools) -> None:
    ada = await agent(stack)
    stack.model.enqueue(calls(("send", "letter")))
    made = await task(stack, agent_id=ada.id)

    [approval] = await until(
        lambda: open_approvals(stack, made.id), timeout=20, what="the approval"
    )
    assert (await reaches(stack, made.id, TaskStatus.REVIEW)).agent_id == ada.id
    await stack.core.approvals.decide(approval, Decide(approve=True), LOCAL_PRINCIPAL)
    await reaches(stack, made.id, TaskStatus.COMPLETED)
    assert tools.lines() == ["letter"]


async def test_fifty_tasks_share_one_agent(stack: Stack) -> None:
    ada = await agent(stack, most=10)
    made = await asyncio.gather(*(task(stack, agent_id=ada.id, title=f"t{n}") for n in range(50)))
    for one in made:
        await reaches(stack, one.id, TaskStatus.COMPLETED)
    assert len(stack.model.requests) == 50


async def test_a_task_without_budget_asks_for_it_and_goes_on(stack: Stack) -> None:
    ada = await agent(stack)
    made = await task(stack, agent_id=ada.id, budget_usd="0.001")

    [approval] = await until(
        lambda: open_approvals(stack, made.id, "budget_increase"),
        timeout=20,
        what="the approval",
    )
    waiting = await stack.core.tasks.get(made.id)
    assert (waiting.status, waiting.error_type) == (TaskStatus.PENDING, "budget_exhausted")
    assert waiting.pending_reason is not None
    assert "budget of task" in waiting.pending_reason
    assert stack.model.requests == []
    await stack.core.approvals.decide(approval, Decide(approve=True), LOCAL_PRINCIPAL)
    done = await reaches(stack, made.id, TaskStatus.COMPLETED)
    assert (done.retry_count, done.attempt) == (0, 2)
    assert done.budget_usd is not None
    assert done.cost_usd <= done.budget_usd


async def test_an_agent_that_stops_as_an_attempt_begins_is_no_failure(
    stack: Stack, tools: TestTools
) -> None:
    ada = await agent(stack)
    stack.model.enqueue(calls(("peek", "x")))
    made = await task(stack, agent_id=ada.id, max_retries=0)
    await until(tools.entered.is_set, what="the tool")
    await set_state(stack, ada.id, "offline")
    tools.held.set()
    waiting = await reaches(stack, made.id, TaskStatus.PENDING)
    assert (waiting.agent_id, waiting.retry_count) == (ada.id, 0)
    assert await run_ends(stack, made.id) is WorkflowExecutionStatus.COMPLETED
    await set_state(stack, ada.id, "active")
    async with stack.core.db.transaction() as tx:
        await stack.core.tasks.dispatch_soon(tx)
    done = await reaches(stack, made.id, TaskStatus.COMPLETED)
    assert (done.attempt, done.retry_count) == (2, 0)


async def set_state(stack: Stack, agent_id: int, state: str) -> None:
    async with stack.core.db.transaction() as tx:
        await tx.conn.execute(
            text("UPDATE agents SET state = :state WHERE id = :id"),
            {"state": state, "id": agent_id},
        )

"""Scenes of tasks to be recorded. Each returns the ids of its runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from conclave.approvals.commands import Decide
from conclave.tasks.commands import UpdateTask
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.tasks import Task, TaskStatus
from schema.payloads import names
from tests.fakes.model_server import Failure, Reply
from tests.fakes.toolbox import TestTools
from tests.harness.stack import Stack
from tests.harness.tasks import agent, open_approvals, reaches, run_ends, shorten, task
from tests.waiting import until

Scene = Callable[[Stack, TestTools], Awaitable[list[str]]]


async def task_amended(stack: Stack, tools: TestTools) -> list[str]:
    """A tool that answers at the second try, a change and a wake-up in mid-turn, the result."""
    stack.model.script.extend([_calls("peek"), _calls("look"), Reply(text="done")])
    tools.failures = 1
    made = await _begun(stack, tools)
    await stack.core.tasks.update(made.id, UpdateTask(instructions="green tea"))
    async with stack.core.db.transaction() as tx:
        await stack.core.workforce.task_wakes.owe(tx, made.id)
    await until(lambda: stack.core.errands.is_idle, what="the change")
    tools.held.set()
    await reaches(stack, made.id, TaskStatus.COMPLETED)
    await run_ends(stack, made.id)
    return _ids(made)


async def task_retried(stack: Stack, tools: TestTools) -> list[str]:
    """An attempt that fails, waits for its next one, and hands over to it."""
    stack.model.script.extend([Failure(500, "down", retry_after="0")] * 5)
    stack.model.responder = lambda received: Reply(text="done")
    made = await _given(stack)
    await until(lambda: _is_late(stack, made), timeout=30, what="the failure")
    async with stack.core.db.transaction() as tx:
        await tx.conn.execute(
            text("UPDATE tasks SET next_attempt_at = clock_timestamp() WHERE id = :id"),
            {"id": made.id},
        )
        await stack.core.workforce.task_wakes.owe(tx, made.id)
    await reaches(stack, made.id, TaskStatus.COMPLETED)
    await run_ends(stack, made.id, 2)
    return _ids(made, 2)


async def task_failed(stack: Stack, tools: TestTools) -> list[str]:
    """A refused call fails it for good."""
    stack.model.script.append(Failure(400, "no such model"))
    made = await _given(stack)
    await reaches(stack, made.id, TaskStatus.FAILED)
    await run_ends(stack, made.id)
    return _ids(made)


async def task_cancelled(stack: Stack, tools: TestTools) -> list[str]:
    """Cancelled while a tool runs."""
    stack.model.script.append(_calls("wait"))
    made = await _begun(stack, tools)
    await stack.core.tasks.cancel_by_hand(made.id, None)
    await run_ends(stack, made.id)
    return _ids(made)


async def task_approved(stack: Stack, tools: TestTools) -> list[str]:
    """Of version 2: a call that people are asked for, with the attempt's time as its bound."""
    stack.model.script.extend([_calls("send"), Reply(text="done")])
    made = await _given(stack)
    [approval] = await until(lambda: open_approvals(stack, made.id), what="the approval")
    await stack.core.approvals.decide(approval, Decide(approve=True), LOCAL_PRINCIPAL)
    await reaches(stack, made.id, TaskStatus.COMPLETED)
    await run_ends(stack, made.id)
    return _ids(made)


async def task_late(stack: Stack, tools: TestTools) -> list[str]:
    """Of version 2: the attempt's time is over while people are asked."""
    stack.model.script.append(_calls("send"))
    with pytest.MonkeyPatch.context() as patch:
        shorten(stack, patch, seconds=5)
        made = await _given(stack)
        await until(lambda: _is_late(stack, made), timeout=30, what="the failure")
    return _ids(made)


async def task_running(stack: Stack, tools: TestTools) -> list[str]:
    """Still open, in a tool."""
    stack.model.script.append(_calls("peek"))
    return _ids(await _begun(stack, tools))


SCENES: tuple[Scene, ...] = (
    task_amended,
    task_retried,
    task_failed,
    task_cancelled,
    task_approved,
    task_late,
    task_running,
)


def _calls(tool: str) -> Reply:
    return Reply(tool_calls=[(tool, {"text": "kettle"})])


async def _given(stack: Stack) -> Task:
    ada = await agent(stack)
    return await task(stack, agent_id=ada.id)


async def _begun(stack: Stack, tools: TestTools) -> Task:
    made = await _given(stack)
    await until(tools.entered.is_set, what="the tool")
    return made


async def _is_late(stack: Stack, made: Task) -> bool:
    return (await stack.core.tasks.get(made.id)).retry_count == 1


def _ids(made: Task, runs: int = 1) -> list[str]:
    return [names.task_workflow_id(made.id, run) for run in range(1, runs + 1)]

"""Agents and tasks over a running product."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from temporalio.client import WorkflowExecutionStatus

from conclave.agents.commands import CreateAgent
from conclave.approvals.commands import ApprovalFilter
from conclave.tasks.dispatch_repository import Standing
from schema.domain.agents import Agent, AgentConfig
from schema.domain.approvals import ApprovalStatus
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.providers import ProviderName
from schema.domain.tasks import NewTask, Task, TaskStatus
from schema.payloads.names import task_workflow_id
from schema.payloads.tasks import TaskInput
from tests.harness.stack import MODEL, Stack
from tests.waiting import until

TOOLS = ["look", "keep", "send", "peek", "glimpse", "wait"]
"""Of `tests.fakes.toolbox`."""


async def agent(
    stack: Stack, name: str = "Ada", *, tools: list[str] | None = None, most: int = 3
) -> Agent:
    made = await stack.core.agents.create(
        CreateAgent(
            name=name,
            provider=ProviderName.OPENAI,
            model=MODEL,
            config=AgentConfig(tools=TOOLS if tools is None else tools),
        )
    )
    async with stack.core.db.transaction() as tx:
        await tx.conn.execute(
            text("UPDATE agents SET max_concurrent_tasks = :most WHERE id = :id"),
            {"most": most, "id": made.id},
        )
    return made


async def task(stack: Stack, **fields: object) -> Task:
    return await stack.core.tasks.create(NewTask.model_validate({"title": "make tea", **fields}))


async def reaches(stack: Stack, task_id: int, status: TaskStatus, *, timeout: float = 20) -> Task:
    async def arrived() -> Task | None:
        found = await stack.core.tasks.get(task_id)
        return found if found.status is status else None

    found = await until(arrived, timeout=timeout, what=f"task {task_id} {status}")
    assert found is not None
    return found


async def run_status(stack: Stack, task_id: int, run: int = 1) -> WorkflowExecutionStatus | None:
    handle = stack.client.get_workflow_handle(task_workflow_id(task_id, run))
    return (await handle.describe()).status


async def run_ends(stack: Stack, task_id: int, run: int = 1) -> WorkflowExecutionStatus:
    async def over() -> WorkflowExecutionStatus | None:
        status = await run_status(stack, task_id, run)
        return None if status is WorkflowExecutionStatus.RUNNING else status

    found = await until(over, timeout=20, what="the run's end")
    assert found is not None
    return found


async def open_approvals(stack: Stack, task_id: int, type_: str | None = None) -> list[int]:
    """Return the approvals that wait for people."""
    wanted = ApprovalFilter(task_id=task_id, status=ApprovalStatus.PENDING)
    found, _ = await stack.core.approvals.list(wanted, LOCAL_PRINCIPAL, 10, 0)
    return [one.id for one in found if type_ in (None, one.type)]


def shorten(stack: Stack, monkeypatch: pytest.MonkeyPatch, seconds: float = 2) -> None:
    """Let attempts that begin now take so long at most."""
    wakes = stack.core.workforce.task_wakes
    usual = wakes.input_of

    async def shortened(standing: Standing) -> TaskInput:
        soon = datetime.now(UTC) + timedelta(seconds=seconds)
        return (await usual(standing)).model_copy(update={"expires_at": soon})

    monkeypatch.setattr(wakes, "input_of", shortened)

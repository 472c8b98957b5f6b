"""What Temporal is told of tasks, where it was away meanwhile."""

from __future__ import annotations

from sqlalchemy import select

from conclave.agents.commands import CreateAgent
from conclave.container import Core
from conclave.tasks.commands import UpdateTask
from schema.domain.providers import ProviderName
from schema.domain.tasks import NewTask, TaskStatus
from schema.tables.tasks import TaskRow
from tests.fakes.engine import FakeEngine
from tests.waiting import until


async def runs(core: Core, task_id: int) -> tuple[bool, int, list[int]]:
    """Return whether a run has the task, the last run, and those that are to be stopped."""
    async with core.db.autocommit() as tx:
        row = await tx.conn.execute(
            select(TaskRow.is_started, TaskRow.workflow_run, TaskRow.stop_runs).where(
                TaskRow.id == task_id
            )
        )
        found = row.one()
    return found.is_started, found.workflow_run, found.stop_runs


async def test_every_run_that_was_stopped_while_temporal_was_away_is_cancelled(
    core: Core, engine: FakeEngine
):
    ada = await core.agents.create(CreateAgent(name="Ada", provider=ProviderName.OPENAI, model="m"))
    task = await core.tasks.create(NewTask(title="t", agent_id=ada.id))
    await until(lambda: engine.tasks, what="the start")
    engine.down = True
    for run in (1, 2):

        async def has_begun(run: int = run) -> bool:
            return (await runs(core, task.id))[:2] == (True, run)

        await until(has_begun, what=f"run {run}")
        await core.tasks.update(task.id, UpdateTask(status=TaskStatus.PENDING))
    await until(lambda: core.errands.is_idle, what="what was tried meanwhile")
    assert (await runs(core, task.id))[2] == [1, 2]
    engine.down = False
    await core.workforce.task_wakes.deliver(task.id)
    assert engine.tasks_cancelled == [(task.id, 1), (task.id, 2)]
    assert (await runs(core, task.id))[2] == []

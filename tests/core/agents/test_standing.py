"""What becomes of agents by the tasks they do: counters, status, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text, update

from conclave.agents.commands import CreateAgent
from conclave.container import Core, build_core
from conclave.db import Database, Transaction
from conclave.settings import Settings
from schema.domain.agents import Agent, AgentStatus
from schema.domain.providers import ProviderName
from schema.domain.tasks import TaskErrorType
from schema.tables.conversations import ConversationRow
from schema.tables.events import EventRow
from schema.tables.notifications import NotificationRow
from schema.tables.tasks import TaskRow
from tests.fakes.engine import FakeEngine
from tests.fakes.tasks import FakeTaskDesk
from tests.waiting import until


@pytest.fixture
async def core(clean_database: Database, postgres_url: str, tmp_path: Path) -> AsyncIterator[Core]:
    settings = Settings(
        database_url=postgres_url, conclave_data_dir=tmp_path, encryption_key=None, redis_url=None
    )
    core = await build_core(settings, engine=FakeEngine(), environment={})
    yield core
    await core.close()


@pytest.fixture
async def ada(core: Core) -> Agent:
    return await core.agents.create(
        CreateAgent(name="Ada", provider=ProviderName.OPENAI, model="m")
    )


async def started(core: Core, agent: Agent) -> int:
    """Start a task as whoever runs tasks does: row first, then what is told of its agent."""
    async with core.db.transaction() as tx:
        talk = await tx.conn.execute(
            insert(ConversationRow)
            .values(
                kind="task", owner="local", topic="t", status="active", agent_ids=[agent.id],
                turn_strategy="round_robin", auto_run=False, max_turns=5, turn_timeout=30,
                speaking_agent_id=agent.id,
            )
            .returning(ConversationRow.id)
        )  # fmt: skip
        values = {"title": "t", "status": "in_progress", "agent_id": agent.id}
        stored = await tx.conn.execute(
            insert(TaskRow)
            .values(**values, conversation_id=talk.scalar_one())
            .returning(TaskRow.id)
        )
    await dispatched(core)
    return stored.scalar_one()


async def dispatched(core: Core) -> None:
    """Tell of busy and idle as the dispatcher does after every change."""
    async with core.db.transaction() as tx:
        untold = await core.agent_record.untold(tx)
    async with core.db.transaction() as tx:
        await core.agent_record.tell(tx, untold)


async def ended(
    core: Core,
    agent: Agent,
    task: int,
    *,
    completed: bool = True,
    seconds: float = 1.5,
    error_type: TaskErrorType | None = None,
) -> None:
    async with core.db.transaction() as tx:
        status = "completed" if completed else "failed"
        found = await tx.conn.execute(
            update(TaskRow)
            .where(TaskRow.id == task)
            .values(status=status)
            .returning(TaskRow.conversation_id)
        )
        await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == found.scalar_one())
            .values(speaking_agent_id=None)
        )
        await core.agent_record.task_ended(
            tx, agent.id, completed=completed, seconds=seconds, error_type=error_type
        )
    await dispatched(core)


async def run(core: Core, agent: Agent, **outcome: object) -> None:
    await ended(core, agent, await started(core, agent), **outcome)  # pyright: ignore[reportArgumentType]  # names of `ended`


async def told(core: Core) -> list[tuple[object, object, object]]:
    async with core.db.transaction() as tx:
        rows = await tx.conn.scalars(
            select(EventRow.data).where(EventRow.type == "agent.status").order_by(EventRow.id)
        )
        return [(row["previous_status"], row["status"], row.get("reason")) for row in rows]


async def test_tasks_are_counted_and_timed(core: Core, ada: Agent):
    await run(core, ada, seconds=1.5)
    await run(core, ada, seconds=2.5)
    await run(core, ada, completed=False, seconds=60)
    agent = await core.agents.get(ada.id)
    assert (agent.tasks_completed, agent.tasks_failed) == (2, 1)
    assert (agent.success_rate, agent.average_task_seconds) == (66.7, 2.0)
    assert agent.last_active_at is not None
    assert agent.updated_at == ada.updated_at, "it is as people set it"


async def test_busy_and_idle_are_told_once_each(core: Core, ada: Agent):
    first, second = await started(core, ada), await started(core, ada)
    assert (await core.agents.get(ada.id)).status is AgentStatus.BUSY
    await ended(core, ada, first)
    assert await told(core) == [("idle", "busy", None)]
    await ended(core, ada, second, completed=False)
    assert await told(core) == [("idle", "busy", None), ("busy", "idle", None)]
    assert (await core.agents.get(ada.id)).status is AgentStatus.IDLE


async def test_of_many_at_once_one_tells(core: Core, ada: Agent):
    tasks = await asyncio.gather(*(started(core, ada) for _ in range(6)))
    assert await told(core) == [("idle", "busy", None)]
    await asyncio.gather(*(ended(core, ada, task) for task in tasks))
    assert await told(core) == [("idle", "busy", None), ("busy", "idle", None)]
    assert (await core.agents.get(ada.id)).tasks_completed == 6


async def test_a_task_that_leaves_is_counted_nowhere(core: Core, ada: Agent):
    task = await started(core, ada)
    async with core.db.transaction() as tx:
        await tx.conn.execute(update(TaskRow).where(TaskRow.id == task).values(status="cancelled"))
        await tx.conn.execute(text("UPDATE conversations SET speaking_agent_id = NULL"))
    await dispatched(core)
    agent = await core.agents.get(ada.id)
    assert (agent.tasks_completed, agent.tasks_failed, agent.status) == (0, 0, AgentStatus.IDLE)
    assert await told(core) == [("idle", "busy", None), ("busy", "idle", None)]


async def test_three_failures_in_a_row_are_an_error(core: Core, ada: Agent):
    for completed in (False, False, True, False, False):
        await run(core, ada, completed=completed)
    assert (await core.agents.get(ada.id)).status is AgentStatus.IDLE
    await run(core, ada, completed=False)
    assert (await core.agents.get(ada.id)).status is AgentStatus.ERROR
    assert (await told(core))[-1] == ("busy", "error", "3 tasks in a row failed")
    await run(core, ada, completed=False)
    assert (await core.agents.get(ada.id)).tasks_failed == 6
    assert len([one for one in await told(core) if one[1] == "error"]) == 1
    assert (await core.agents.start(ada.id)).status is AgentStatus.IDLE
    await run(core, ada, completed=False)
    assert (await core.agents.get(ada.id)).status is AgentStatus.IDLE, "it counts anew"


async def test_refused_credentials_are_an_error_at_once_and_told_to_people(core: Core, ada: Agent):
    async with core.db.transaction() as tx:
        await tx.conn.execute(
            text(
                "INSERT INTO users (email, full_name, role, password_hash)"
                " VALUES ('ada@example.org', 'Ada', 'operator', '-')"
            )
        )
    await run(core, ada, completed=False, error_type=TaskErrorType.AUTH)
    assert (await core.agents.get(ada.id)).status is AgentStatus.ERROR
    assert (await told(core))[-1] == (
        "busy", "error", "The provider refused the credentials",
    )  # fmt: skip
    async with core.db.transaction() as tx:
        row = (await tx.conn.execute(select(NotificationRow.title, NotificationRow.meta))).one()
    assert tuple(row) == ("Agent Ada is in error", {"agent_id": ada.id})
    await core.configuration.set_many({"notifications.notify_agent_error": "false"})
    await core.agents.start(ada.id)
    await run(core, ada, completed=False, error_type=TaskErrorType.AUTH)
    async with core.db.transaction() as tx:
        assert len((await tx.conn.execute(select(NotificationRow.id))).all()) == 1


async def test_a_budget_that_is_spent_pauses_it_until_there_is_another(core: Core, ada: Agent):
    async with core.db.transaction() as tx:
        await tx.conn.execute(text("UPDATE agents SET daily_budget_usd = 1"))
        await tx.conn.execute(
            text(
                "INSERT INTO budget_counters (scope, owner_id, since, spent_usd, reserved_usd)"
                " VALUES ('agent', :id, (clock_timestamp() AT TIME ZONE 'UTC')::date, 1, 0)"
            ),
            {"id": ada.id},
        )
    await run(core, ada, completed=False)
    await dispatched(core)
    paused = ("idle", "paused", "Its daily budget is spent")
    assert await told(core) == [paused]
    async with core.db.transaction() as tx:
        await tx.conn.execute(text("UPDATE budget_counters SET spent_usd = 0"))
    await run(core, ada, completed=False)
    assert (await told(core))[1:] == [("paused", "busy", None), ("busy", "idle", None)]


class LockingDesk(FakeTaskDesk):
    """Releases as whoever runs tasks must: the conversation is locked first, then the task."""

    async def release(self, tx: Transaction, agent_id: int, *, keep_agent: bool) -> None:
        for table in ("conversations WHERE speaking_agent_id", "tasks WHERE agent_id"):
            await tx.conn.execute(
                text(f"SELECT id FROM {table} = :agent_id ORDER BY id FOR UPDATE"),
                {"agent_id": agent_id},
            )
        await tx.conn.execute(
            text(
                "UPDATE tasks SET status = 'pending' WHERE agent_id = :agent_id"
                " AND status = 'in_progress'"
            ),
            {"agent_id": agent_id},
        )


async def test_an_agent_that_is_stopped_as_its_task_ends_waits_for_the_task(core: Core, ada: Agent):
    """Both lock the task before the agent: neither waits for the other's second lock."""
    core.agents.work.tasks = LockingDesk()
    task = await started(core, ada)

    async def is_waiting() -> bool:
        async with core.db.autocommit() as tx:
            found = await tx.conn.execute(
                text(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    " AND datname = current_database()"
                )
            )
            return found.scalar_one() > 0

    async with core.db.transaction() as tx:
        await tx.conn.execute(text("SELECT id FROM conversations FOR UPDATE"))
        stopping = asyncio.create_task(core.agents.stop(ada.id))
        await until(is_waiting, what="the stop to wait")
        await tx.conn.execute(update(TaskRow).where(TaskRow.id == task).values(status="completed"))
        await tx.conn.execute(text("UPDATE conversations SET speaking_agent_id = NULL"))
        await core.agent_record.task_ended(tx, ada.id, completed=True, seconds=1)
    stopped = await stopping
    assert (stopped.status, stopped.tasks_completed) == (AgentStatus.OFFLINE, 1)


async def test_who_is_gone_is_passed_over(core: Core):
    async with core.db.transaction() as tx:
        await core.agent_record.task_ended(tx, 99, completed=False, seconds=1)
        await core.agent_record.tell(tx, [99])
    assert await told(core) == []

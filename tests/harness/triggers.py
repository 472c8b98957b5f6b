"""Triggers over a real database, with a fake engine and fake desks."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, text

from conclave.container import Core, build_core
from conclave.crypto import new_key
from conclave.settings import Settings
from conclave.triggers.commands import CreateTrigger, GivenAction
from conclave.triggers.consumer import EventConsumer
from schema.domain.events import EventDraft, EventType
from schema.domain.identity import LOCAL_PRINCIPAL, Principal
from schema.domain.triggers import ActionType, RunStatus, Trigger, TriggerRun, TriggerType
from schema.payloads.triggers import ActInput, ClaimInput, ClaimResult, FiringResult
from schema.tables.tasks import TaskRow
from schema.tables.triggers import TriggerRunRow
from tests.fakes.engine import FakeEngine
from tests.fakes.triggers import FakeNotifier, FakePipelines, FakeTasks
from tests.waiting import until

TASK: dict[str, Any] = {"title": "Look at {{event.title}}"}


@dataclass
class Triggers:
    """What a test works with."""

    core: Core
    engine: FakeEngine
    tasks: FakeTasks
    pipelines: FakePipelines
    notifier: FakeNotifier
    consumer: EventConsumer

    async def make(
        self,
        kind: str,
        config: dict[str, Any],
        action: str = "create_task",
        given: dict[str, Any] | None = None,
        *,
        by: Principal = LOCAL_PRINCIPAL,
        **fields: Any,
    ) -> Trigger:
        """Store a trigger."""
        command = CreateTrigger(
            name="t",
            type=TriggerType(kind),
            config=config,
            action=GivenAction(type=ActionType(action), config=TASK if given is None else given),
            **fields,
        )
        made = await self.core.triggers.create(command, by)
        await self.idle()
        return made.trigger

    async def fire(self, trigger: Trigger, event: dict[str, Any] | None = None) -> TriggerRun:
        """Fire a trigger as its workflow would, and return how it ended."""
        run_id = await self.core.triggers.fire(trigger.id, event or {})
        await self.claim(trigger, run_id)
        await self.act(run_id)
        return await self.run(run_id)

    async def claim(self, trigger: Trigger, run_id: int) -> ClaimResult:
        return await self.core.firings.claim(ClaimInput(trigger_id=trigger.id, run_id=run_id))

    async def act(self, run_id: int) -> FiringResult:
        return await self.core.firings.act(ActInput(run_id=run_id))

    async def run(self, run_id: int) -> TriggerRun:
        async with self.core.db.transaction() as tx:
            found = await self.core.firings._runs.get(tx, run_id)
        assert found is not None
        return found

    async def runs(self, trigger: Trigger, *statuses: RunStatus) -> list[TriggerRun]:
        """Return a trigger's firings, the oldest first."""
        async with self.core.db.transaction() as tx:
            ids = await tx.conn.scalars(
                select(TriggerRunRow.id)
                .where(TriggerRunRow.trigger_id == trigger.id)
                .order_by(TriggerRunRow.id)
            )
        found = [await self.run(one) for one in ids]
        return [one for one in found if not statuses or one.status in statuses]

    async def get(self, trigger: Trigger) -> Trigger:
        return (await self.core.triggers.get(trigger.id)).trigger

    async def tell(self, kind: EventType, data: dict[str, Any], **fields: Any) -> None:
        """Store an event."""
        draft = EventDraft(stream="told", type=kind, data=data, **fields)
        async with self.core.db.transaction() as tx:
            await self.core.events.append(tx, [draft])

    async def read(self) -> None:
        """Let the consumer read what there is."""
        await self.consumer.read()
        await self.idle()

    async def task(self, depth: int = 0, **fields: Any) -> int:
        """Store a task as the desk would."""
        async with self.core.db.transaction() as tx:
            talk = await tx.conn.scalar(
                text(
                    "INSERT INTO conversations (kind, owner, topic, status, agent_ids,"
                    " turn_strategy, auto_run, max_turns, turn_timeout, last_seq)"
                    " VALUES ('task', 'local', 't', 'pending', '{}', 'round_robin', false, 1, 1, 0)"
                    " RETURNING id"
                )
            )
            values = {"title": "t", "conversation_id": talk, "chain_depth": depth, **fields}
            added = await tx.conn.execute(insert(TaskRow).values(**values).returning(TaskRow.id))
            return added.scalar_one()

    async def idle(self) -> None:
        await until(lambda: self.core.errands.is_idle, what="the errands")


@asynccontextmanager
async def running_triggers(postgres_url: str) -> AsyncGenerator[Triggers]:
    """Build them over a database that is empty."""
    settings = Settings.model_validate(
        {"database_url": postgres_url, "encryption_key": new_key(), "redis_url": None}
    )
    engine = FakeEngine()
    core = await build_core(settings, engine=engine, name="triggers", environment={})
    tasks, pipelines, notifier = FakeTasks(), FakePipelines(), FakeNotifier()
    desks = core.workforce.triggers.desks
    desks.tasks, desks.pipelines, desks.catalogue = tasks, pipelines, pipelines
    desks.notifier = notifier
    consumer = EventConsumer(core.db, core.events, core.bus, core.trigger_dispatch)
    try:
        yield Triggers(core, engine, tasks, pipelines, notifier, consumer)
    finally:
        await until(lambda: core.errands.is_idle, what="the errands")
        await core.close()

"""What caused an event: a firing's action or nobody's, and how many firings led to it.

Followed through what the record holds: tasks carry their depth, firings what they made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from pydantic import JsonValue
from sqlalchemy import or_, select
from sqlalchemy.dialects.postgresql import distinct_on

from conclave.db import Transaction
from schema.domain.events import Event, EventType
from schema.domain.triggers import Made
from schema.tables.tasks import TaskRow
from schema.tables.triggers import TriggerRunRow


class Cause(NamedTuple):
    """How many firings led to an event, and the trigger whose action it is the doing of."""

    depth: int = 0
    trigger_id: int | None = None


class _Task(NamedTuple):
    id: int
    agent_id: int | None
    conversation_id: int
    depth: int
    run: int | None


class ChainRepository:
    """Looks causes up, all of a page of events at once."""

    async def causes(self, tx: Transaction, events: Collection[Event]) -> dict[int, Cause]:
        """Return the causes of events by their ids; those nobody's firing caused are left out."""
        tasks = await self._tasks(tx, events)
        pipeline_runs = {run for event in events if (run := _pipeline_run(event)) is not None}
        pipeline_runs |= {task.run for task in tasks if task.run is not None}
        talks = {event.conversation_id for event in events if event.conversation_id is not None}
        made = await self._made(
            tx,
            {
                Made.TASK: {task.id for task in tasks},
                Made.RUN: pipeline_runs,
                Made.CONVERSATION: talks,
            },
        )
        firings = await self._firings(
            tx, {run for event in events if (run := _firing(event)) is not None}
        )
        found: dict[int, Cause] = {}
        for event in events:
            causes = [*_of_tasks(event, tasks, made)]
            for kind, key in ((Made.RUN, _pipeline_run(event)), (Made.CONVERSATION, _talk(event))):
                causes += [made[kind, key]] if key is not None and (kind, key) in made else []
            firing = _firing(event)
            causes += [firings[firing]] if firing is not None and firing in firings else []
            if causes:
                found[event.id] = max(causes, key=lambda one: one.depth)
        return found

    async def _tasks(self, tx: Transaction, events: Collection[Event]) -> list[_Task]:
        ids = {task for event in events if (task := _task(event)) is not None}
        talks = {event.conversation_id for event in events if event.conversation_id is not None}
        agents = {
            event.agent_id
            for event in events
            if event.type is EventType.AGENT_STATUS and event.agent_id is not None
        }
        found: dict[int, _Task] = {}
        if ids or talks:
            rows = await tx.conn.execute(
                _SELECT.where(or_(TaskRow.id.in_(ids), TaskRow.conversation_id.in_(talks)))
            )
            found |= {row.id: _Task(*row) for row in rows}
        if agents:
            # An agent's status changes with its work: the latest it was at.
            rows = await tx.conn.execute(
                _SELECT.where(TaskRow.agent_id.in_(agents))
                .ext(distinct_on(TaskRow.agent_id))
                .order_by(TaskRow.agent_id, TaskRow.updated_at.desc())
            )
            found |= {row.id: _Task(*row) for row in rows}
        return list(found.values())

    async def _made(
        self, tx: Transaction, wanted: Mapping[Made, set[int]]
    ) -> dict[tuple[Made, int], Cause]:
        conditions = [
            (TriggerRunRow.made_kind == kind) & TriggerRunRow.made_id.in_(ids)
            for kind, ids in wanted.items()
            if ids
        ]
        if not conditions:
            return {}
        rows = await tx.conn.execute(
            select(
                TriggerRunRow.made_kind,
                TriggerRunRow.made_id,
                TriggerRunRow.chain_depth,
                TriggerRunRow.trigger_id,
            ).where(or_(*conditions))
        )
        return {
            (Made(row.made_kind), row.made_id): Cause(row.chain_depth + 1, row.trigger_id)
            for row in rows
        }

    async def _firings(self, tx: Transaction, ids: set[int]) -> dict[int, Cause]:
        if not ids:
            return {}
        rows = await tx.conn.execute(
            select(TriggerRunRow.id, TriggerRunRow.chain_depth, TriggerRunRow.trigger_id).where(
                TriggerRunRow.id.in_(ids)
            )
        )
        return {row.id: Cause(row.chain_depth + 1, row.trigger_id) for row in rows}


_SELECT = select(
    TaskRow.id,
    TaskRow.agent_id,
    TaskRow.conversation_id,
    TaskRow.chain_depth,
    TaskRow.workflow_run_id,
)


def _of_tasks(
    event: Event, tasks: list[_Task], made: Mapping[tuple[Made, int], Cause]
) -> Iterable[Cause]:
    is_status = event.type is EventType.AGENT_STATUS
    for task in tasks:
        if (
            task.id == _task(event)
            or (event.conversation_id is not None and task.conversation_id == event.conversation_id)
            or (is_status and event.agent_id is not None and task.agent_id == event.agent_id)
        ):
            maker = made.get((Made.TASK, task.id))
            if maker is None and task.run is not None:
                maker = made.get((Made.RUN, task.run))
            depth = max(task.depth, 0 if maker is None else maker.depth)
            if depth or maker is not None:
                yield Cause(depth, None if maker is None else maker.trigger_id)


def _task(event: Event) -> int | None:
    if event.type.value.startswith("task."):
        return _number(event.data, "id")
    return _number(event.data, "task_id")


def _pipeline_run(event: Event) -> int | None:
    return _number(event.data, "run_id") if event.type.value.startswith("workflow.") else None


def _firing(event: Event) -> int | None:
    return _number(event.data, "run_id") if event.type is EventType.TRIGGER_FIRED else None


def _talk(event: Event) -> int | None:
    return event.conversation_id


def _number(data: Mapping[str, JsonValue], name: str) -> int | None:
    found = data.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) else None

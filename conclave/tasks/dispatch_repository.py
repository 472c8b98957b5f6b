"""The dispatcher's SQL: who waits, who is free, and what is begun."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import delete, func, insert, select, text, update

from conclave.db import Transaction
from conclave.tasks.matching import FreeAgent, Match, WaitingTask
from schema.domain.base import Shape
from schema.domain.tasks import TaskStatus
from schema.tables.agents import AgentRow
from schema.tables.conversations import ConversationRow
from schema.tables.inbox import OutboxRow
from schema.tables.tasks import TaskAttemptRow, TaskRow

_HOLD = text("SELECT pg_advisory_xact_lock(hashtextextended('conclave tasks dispatch', 7))")

_WAITS = """
    tasks.status IN ('pending', 'queued', 'assigned') AND NOT tasks.is_started
    AND tasks.deleted_at IS NULL
    AND (tasks.next_attempt_at IS NULL OR tasks.next_attempt_at <= clock_timestamp())
"""
_ORDER = "tasks.rank, tasks.deadline NULLS LAST, tasks.id"
_RUNNING = "('assigned', 'in_progress', 'review')"

_FREE = text(
    f"""
    SELECT id, ARRAY(SELECT jsonb_array_elements_text(config->'tools')) AS tools,
        ARRAY(SELECT capability FROM agent_capabilities WHERE agent_id = agents.id)
            AS capabilities,
        max_concurrent_tasks AS most, load.running, load.open,
        told_status = 'paused' AS is_paused,
        COALESCE(extract(epoch FROM clock_timestamp() - last_active_at), 'infinity'::float8)
            AS idle_since
    FROM agents, LATERAL (
        SELECT count(*) FILTER (WHERE tasks.is_started) AS running, count(*) AS open
        FROM tasks
        WHERE tasks.agent_id = agents.id AND tasks.status IN {_RUNNING}
            AND tasks.deleted_at IS NULL
    ) AS load
    WHERE agents.deleted_at IS NULL AND agents.state = 'active'
        AND load.running < agents.max_concurrent_tasks
    """
)

_ASSIGNED = text(
    f"""
    SELECT waiting.* FROM jsonb_to_recordset(CAST(:free AS jsonb)) AS free(id bigint, slots int),
    LATERAL (
        SELECT tasks.id, tasks.conversation_id, tasks.agent_id, tasks.required_tools
        FROM tasks
        WHERE tasks.agent_id = free.id AND {_WAITS}
        ORDER BY {_ORDER} LIMIT free.slots
    ) AS waiting
    LIMIT :most
    """
)

_UNASSIGNED = text(
    f"""
    SELECT tasks.id, tasks.required_tools, tasks.required_capabilities FROM tasks
    WHERE tasks.agent_id IS NULL AND {_WAITS}
        AND EXISTS (
            SELECT FROM jsonb_to_recordset(CAST(:free AS jsonb))
                AS free(tools jsonb, capabilities jsonb)
            WHERE free.tools @> to_jsonb(tasks.required_tools)
                AND free.capabilities @> to_jsonb(tasks.required_capabilities)
        )
    ORDER BY {_ORDER} LIMIT :most
    """
)

_CLAIM = text(
    """
    UPDATE tasks SET agent_id = wanted.agent_id, status = 'assigned', is_started = true,
        workflow_run = workflow_run + 1, pending_reason = NULL, next_attempt_at = NULL,
        updated_at = clock_timestamp()
    FROM jsonb_to_recordset(CAST(:wanted AS jsonb)) AS wanted(task_id bigint, agent_id bigint)
    WHERE tasks.id = wanted.task_id AND NOT tasks.is_started AND tasks.deleted_at IS NULL
        AND tasks.status IN ('pending', 'queued', 'assigned')
        AND (tasks.agent_id IS NULL OR tasks.agent_id = wanted.agent_id)
    RETURNING tasks.id, tasks.conversation_id, tasks.agent_id, tasks.workflow_run, tasks.error
    """
)

# Whether somebody would do at all decides what a task without an agent shows while it waits. What
# is asked of the row itself is asked again at the end: it may have been changed meanwhile.
_EXPLAIN = text(
    f"""
    WITH judged AS (
        SELECT tasks.id, EXISTS (
            SELECT FROM agents
            WHERE agents.deleted_at IS NULL AND agents.state = 'active'
                AND agents.config->'tools' @> to_jsonb(tasks.required_tools)
                AND tasks.required_capabilities <@ ARRAY(
                    SELECT capability FROM agent_capabilities WHERE agent_id = agents.id)
        ) AS fits
        FROM tasks WHERE tasks.agent_id IS NULL AND {_WAITS}
    )
    UPDATE tasks SET status = CASE WHEN fits THEN 'queued' ELSE 'pending' END,
        pending_reason = CASE WHEN fits THEN 'Every agent that fits is full'
            ELSE 'No agent fits that takes work' END,
        updated_at = clock_timestamp()
    FROM judged
    WHERE tasks.id = judged.id AND NOT tasks.is_started
        AND tasks.status IN ('pending', 'queued') AND tasks.agent_id IS NULL
        AND (fits = (tasks.status <> 'queued')
            OR (NOT fits AND tasks.pending_reason IS DISTINCT FROM
                'No agent fits that takes work'))
    RETURNING tasks.id, fits
    """
)


class AssignedTask(Shape):
    """A task that waits for a slot of its agent."""

    id: int
    conversation_id: int
    agent_id: int
    required_tools: frozenset[str]


class Claimed(Shape):
    """A task that was given a slot."""

    id: int
    conversation_id: int
    agent_id: int
    workflow_run: int
    error: str | None
    """Why the attempt before failed."""


class Standing(Shape):
    """A task as far as telling its workflow goes."""

    id: int
    status: TaskStatus
    is_started: bool
    workflow_run: int
    stop_runs: list[int]
    conversation_id: int
    execution: int
    turn_count: int
    turn_timeout: int
    agent_id: int | None
    agent_slug: str | None
    model: str | None
    rank: int
    started_at: datetime | None
    """Of the attempt."""
    metadata: dict[str, object]


class DispatchRepository:
    """Everything here is done under `hold`: one dispatcher works at a time."""

    async def hold(self, tx: Transaction) -> None:
        """Be the one that hands out work until the transaction ends."""
        await tx.conn.execute(_HOLD)

    async def free_agents(self, tx: Transaction) -> list[FreeAgent]:
        """Return the agents that take work and have a slot left."""
        rows = await tx.conn.execute(_FREE)
        return [FreeAgent.model_validate(row) for row in rows.mappings()]

    async def assigned(
        self, tx: Transaction, free: Sequence[FreeAgent], most: int
    ) -> list[AssignedTask]:
        """Return what waits for a slot of its own agent, as far as slots go."""
        slots = json.dumps([{"id": one.id, "slots": one.most - one.running} for one in free])
        rows = await tx.conn.execute(_ASSIGNED, {"free": slots, "most": most})
        return [AssignedTask.model_validate(row) for row in rows.mappings()]

    async def unassigned(
        self, tx: Transaction, free: Sequence[FreeAgent], most: int
    ) -> list[WaitingTask]:
        """Return what one of the free agents could do, in order."""
        able = json.dumps(
            [{"tools": sorted(one.tools), "capabilities": sorted(one.capabilities)} for one in free]
        )
        rows = await tx.conn.execute(_UNASSIGNED, {"free": able, "most": most})
        return [WaitingTask.model_validate(row) for row in rows.mappings()]

    async def threads(self, tx: Transaction, task_ids: Collection[int]) -> Mapping[int, int]:
        """Return the conversation of each task."""
        rows = await tx.conn.execute(
            select(TaskRow.id, TaskRow.conversation_id).where(TaskRow.id.in_(task_ids))
        )
        return {task_id: conversation_id for task_id, conversation_id in rows}

    async def claim(self, tx: Transaction, matches: Sequence[Match]) -> list[Claimed]:
        """Give tasks their agents and slots; those that changed meanwhile are left out."""
        wanted = json.dumps([one.model_dump() for one in matches])
        rows = await tx.conn.execute(_CLAIM, {"wanted": wanted})
        return [Claimed.model_validate(row) for row in rows.mappings()]

    async def begin_attempts(self, tx: Transaction, begun: Mapping[int, tuple[int, int]]) -> None:
        """Note attempts: task → (attempt, agent)."""
        await tx.conn.execute(
            insert(TaskAttemptRow),
            [
                {"task_id": task_id, "attempt": attempt, "agent_id": agent_id}
                for task_id, (attempt, agent_id) in begun.items()
            ],
        )

    async def explain(self, tx: Transaction) -> dict[int, bool]:
        """Say in the record why tasks wait; return those for which that changed: whether an
        agent fits."""
        rows = await tx.conn.execute(_EXPLAIN)
        return {task_id: fits for task_id, fits in rows}

    async def standing(self, tx: Transaction, task_id: int) -> Standing | None:
        """Return a task as far as its workflow is concerned, deleted ones too."""
        found = await self.standings(tx, [task_id])
        return found[0] if found else None

    async def standings(self, tx: Transaction, task_ids: Collection[int]) -> list[Standing]:
        """Return tasks as far as their workflows are concerned."""
        rows = await tx.conn.execute(
            select(
                TaskRow.id,
                TaskRow.status,
                TaskRow.is_started,
                TaskRow.workflow_run,
                TaskRow.stop_runs,
                TaskRow.conversation_id,
                ConversationRow.execution,
                ConversationRow.turn_count,
                ConversationRow.turn_timeout,
                TaskRow.agent_id,
                AgentRow.slug.label("agent_slug"),
                AgentRow.model,
                TaskRow.rank,
                TaskAttemptRow.started_at,
                TaskRow.meta.label("metadata"),
            )
            .join(ConversationRow, ConversationRow.id == TaskRow.conversation_id)
            .outerjoin(AgentRow, AgentRow.id == TaskRow.agent_id)
            .outerjoin(
                TaskAttemptRow,
                (TaskAttemptRow.task_id == TaskRow.id)
                & (TaskAttemptRow.attempt == ConversationRow.execution),
            )
            .where(TaskRow.id.in_(task_ids))
        )
        return [Standing.model_validate(row) for row in rows.mappings()]

    async def stopped(self, tx: Transaction, task_id: int, run: int) -> None:
        """Note that Temporal was told to cancel a run."""
        await tx.conn.execute(
            update(TaskRow)
            .where(TaskRow.id == task_id)
            .values(stop_runs=func.array_remove(TaskRow.stop_runs, run))
        )

    async def owed_passes(self, tx: Transaction, kind: str) -> list[int]:
        """Return the wake-ups of the dispatcher that are owed."""
        return list(
            await tx.conn.scalars(select(OutboxRow.id).where(OutboxRow.target_kind == kind))
        )

    async def forget(self, tx: Transaction, outbox_ids: Collection[int]) -> None:
        """Strike wake-ups."""
        await tx.conn.execute(delete(OutboxRow).where(OutboxRow.id.in_(outbox_ids)))

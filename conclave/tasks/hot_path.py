"""The statements that every task pays for: each is one round trip, whatever it changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text

from conclave.db import Transaction
from conclave.ports.threads import NewThread
from schema.domain.base import Shape
from schema.domain.tasks import NewTask, TaskHead, TaskStatus

_INSERT = text(
    """
    WITH thread AS (
        INSERT INTO conversations (kind, owner, topic, status, agent_ids, turn_strategy, auto_run,
            max_turns, turn_timeout, last_seq, project_id)
        VALUES ('task', :owner, :topic, 'pending', '{}', 'round_robin', false, 1000000, 120, 1,
            :project_id)
        RETURNING id
    ), prompted AS (
        INSERT INTO messages (conversation_id, seq, role, content, execution, turn, step)
        SELECT id, 1, 'user', :prompt, 1, 0, 0 FROM thread
    )
    INSERT INTO tasks (title, description, instructions, status, priority, rank, agent_id,
        assigned_by, origin_key, workflow_id, workflow_run_id, waiter_kind, waiter_id, chain_depth,
        parent_task_id, definition_id, project_id, conversation_id, deadline, max_retries,
        required_tools, required_capabilities, budget_usd, metadata)
    SELECT :title, :description, :instructions, :status, :priority, :rank, :agent_id,
        :assigned_by, :key, :workflow_id, :workflow_run_id, :waiter_kind, :waiter_id,
        :chain_depth, :parent_task_id, :definition_id, :project_id, thread.id, :deadline,
        :max_retries, :required_tools, :required_capabilities, :budget_usd,
        CAST(:metadata AS jsonb)
    FROM thread
    RETURNING id, conversation_id, created_at,
        (SELECT name FROM agents WHERE id = CAST(:agent_id AS bigint)) AS agent_name
    """
)
"""A task and the thread it is worked on in: a conversation of kind TASK, which nobody is told of,
and whose turns are bounded by the task's own time and budget."""

_HEAD = "id, title, status, priority, agent_id, workflow_id, chain_depth, progress_percent"
_BEGIN = text(
    f"""
    WITH begun AS (
        UPDATE tasks SET status = 'in_progress', error = NULL, error_type = NULL,
            started_at = COALESCE(started_at, clock_timestamp()), updated_at = clock_timestamp()
        WHERE conversation_id = :conversation_id AND status = 'assigned'
        RETURNING {_HEAD}
    ), agent AS (
        SELECT agents.id, told_status = 'busy' AS is_told_busy
        FROM agents JOIN begun ON begun.agent_id = agents.id FOR SHARE OF agents
    )
    SELECT begun.*, COALESCE(is_told_busy, false) AS is_told_busy
    FROM begun LEFT JOIN agent ON agent.id = begun.agent_id
    """
)
"""The agent cannot be told to be idle until this is committed, nor does one task wait for another
of its agent."""

_COMPLETE = text(
    f"""
    WITH completed AS (
        UPDATE tasks SET status = 'completed', result = :result, progress_percent = 100,
            error = NULL, error_type = NULL, pending_reason = NULL, next_attempt_at = NULL,
            is_started = false,
            completed_at = clock_timestamp(), updated_at = clock_timestamp()
        WHERE conversation_id = :conversation_id
            AND status IN ('assigned', 'in_progress', 'review')
        RETURNING {_HEAD}, started_at, completed_at, waiter_kind, waiter_id
    ), counted AS (
        INSERT INTO agent_tallies AS tally (agent_id, slot, completed, seconds)
        SELECT agent_id, pg_backend_pid() % 64, 1,
            extract(epoch FROM completed_at - COALESCE(started_at, completed_at))
        FROM completed WHERE agent_id IS NOT NULL
        ON CONFLICT (agent_id, slot) DO UPDATE
            SET completed = tally.completed + 1, seconds = tally.seconds + excluded.seconds
    ), noted AS (
        -- Not for each of many that end at once: it locks the agent.
        UPDATE agents SET failed_in_a_row = 0, last_active_at = clock_timestamp()
        FROM completed WHERE agents.id = completed.agent_id AND (
            failed_in_a_row > 0 OR last_active_at IS NULL
            OR last_active_at < clock_timestamp() - interval '1 second')
    ), ended AS (
        UPDATE task_attempts SET ended_at = clock_timestamp(), outcome = 'completed'
        FROM completed WHERE task_id = completed.id AND attempt = :attempt AND ended_at IS NULL
    ), owed AS (
        INSERT INTO outbox (target_kind, target_id, due_at)
        SELECT waiter_kind, waiter_id, clock_timestamp() FROM completed
        WHERE waiter_kind IS NOT NULL
    )
    SELECT *, EXISTS (
        SELECT FROM approvals WHERE task_id = completed.id AND status = 'pending'
    ) AS has_approvals
    FROM completed
    """
)


class Stored(Shape):
    """What the database assigns to a new task."""

    id: int
    conversation_id: int
    created_at: datetime
    agent_name: str | None


class BegunTask(TaskHead):
    """A task that its agent has just begun."""

    is_told_busy: bool
    """Its agent."""


class CompletedTask(TaskHead):
    """A task that its agent has just completed."""

    started_at: datetime | None
    completed_at: datetime
    waiter_kind: str | None
    waiter_id: int | None
    has_approvals: bool
    """Somebody was asked something for it, and has not answered."""

    @property
    def seconds(self) -> float:
        """What it took from its first start."""
        began = self.started_at or self.completed_at
        return (self.completed_at - began).total_seconds()


class TaskHotPath:
    """Stores, begins and completes tasks."""

    async def insert(self, tx: Transaction, wanted: NewTask, thread: NewThread) -> Stored:
        """Store a task and its thread."""
        origin = wanted.origin
        status = TaskStatus.PENDING if wanted.agent_id is None else TaskStatus.ASSIGNED
        row = await tx.conn.execute(
            _INSERT,
            {
                **wanted.model_dump(exclude={"origin", "metadata"}),
                **thread.model_dump(),
                "metadata": json.dumps(wanted.metadata),
                "status": status,
                "rank": wanted.priority.rank,
                "key": origin and origin.key,
                "workflow_id": origin and origin.workflow_id,
                "workflow_run_id": origin and origin.workflow_run_id,
                "waiter_kind": origin and origin.waiter_kind,
                "waiter_id": origin and origin.waiter_id,
                "chain_depth": origin.chain_depth if origin else 0,
            },
        )
        return Stored.model_validate(row.mappings().one())

    async def begin(self, tx: Transaction, conversation_id: int) -> BegunTask | None:
        """Show an assigned task as in progress; None where it is already."""
        row = await tx.conn.execute(_BEGIN, {"conversation_id": conversation_id})
        found = row.mappings().one_or_none()
        return None if found is None else BegunTask.model_validate(found)

    async def complete(
        self, tx: Transaction, conversation_id: int, attempt: int, result: str
    ) -> CompletedTask | None:
        """Complete a task with its agent's last words; None where it has ended. Its waiter is
        owed a wake-up."""
        row = await tx.conn.execute(
            _COMPLETE,
            {
                "conversation_id": conversation_id,
                "attempt": attempt,
                "result": result,
            },
        )
        found = row.mappings().one_or_none()
        return None if found is None else CompletedTask.model_validate(found)

    async def owe_starts(self, tx: Transaction, kind: str, task_ids: Sequence[int]) -> list[int]:
        """Store the wake-ups of tasks that were given a slot; return the outbox's ids."""
        rows = await tx.conn.scalars(
            text(
                "INSERT INTO outbox (target_kind, target_id, due_at)"
                " SELECT :kind, id, clock_timestamp() + interval '2 seconds'"
                " FROM unnest(CAST(:ids AS bigint[])) AS id RETURNING id"
            ),
            {"kind": kind, "ids": list(task_ids)},
        )
        return list(rows)

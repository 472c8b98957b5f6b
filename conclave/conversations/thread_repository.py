"""All SQL on the threads of tasks: conversations of kind TASK."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from sqlalchemy import func, select, text, update

from conclave.db import Transaction
from conclave.ports.threads import Attempt, Begun
from schema.domain.conversations import ConversationStatus
from schema.tables.conversations import ConversationRow

_BEGIN = text(
    """
    WITH wanted AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(CAST(:attempts AS jsonb))
            AS attempt(conversation_id bigint, agent_id bigint, note text)
    ), begun AS (
        UPDATE conversations SET
            execution = CASE WHEN started THEN execution + 1 ELSE execution END,
            started = true,
            status = 'active',
            reason = NULL,
            final = false,
            fence = NULL,
            speaking_agent_id = NULL,
            cancel_turn = NULL,
            agent_ids = ARRAY[wanted.agent_id],
            last_seq = last_seq + CASE WHEN wanted.note IS NULL THEN 0 ELSE 1 END,
            updated_at = clock_timestamp()
        FROM wanted WHERE conversations.id = wanted.conversation_id
        RETURNING conversations.id, execution, turn_count, turn_timeout, last_seq, wanted.note
    ), told AS (
        INSERT INTO messages (conversation_id, seq, role, content, execution, turn, step)
        SELECT id, last_seq, 'user', note, execution, turn_count, 0
        FROM begun WHERE note IS NOT NULL
    )
    SELECT id AS conversation_id, execution, turn_count, turn_timeout FROM begun
    """
)


class ThreadRepository:
    """Reads and writes threads."""

    async def lock(
        self, tx: Transaction, conversation_ids: Collection[int], *, wait: bool
    ) -> set[int]:
        """Lock threads in the order of their ids; without `wait` only those that are free."""
        rows = await tx.conn.scalars(
            select(ConversationRow.id)
            .where(ConversationRow.id.in_(conversation_ids))
            .order_by(ConversationRow.id)
            .with_for_update(skip_locked=not wait)
        )
        return set(rows)

    async def begin(self, tx: Transaction, attempts: Sequence[Attempt]) -> dict[int, Begun]:
        """Move threads on to their next execution."""
        wanted = json.dumps([attempt.model_dump() for attempt in attempts])
        rows = await tx.conn.execute(_BEGIN, {"attempts": wanted})
        found = [Begun.model_validate(row) for row in rows.mappings()]
        return {one.conversation_id: one for one in found}

    async def fence(self, tx: Transaction, conversation_id: int) -> int | None:
        """Return the model call that may commit."""
        return await tx.conn.scalar(
            select(ConversationRow.fence).where(ConversationRow.id == conversation_id)
        )

    async def finish(
        self, tx: Transaction, conversation_id: int, status: ConversationStatus, reason: str
    ) -> None:
        """End a thread: nobody speaks, nothing commits."""
        await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == conversation_id)
            .values(
                status=status,
                reason=reason,
                final=True,
                fence=None,
                speaking_agent_id=None,
                cancel_turn=None,
                ended_at=func.clock_timestamp(),
                updated_at=func.clock_timestamp(),
            )
        )

"""Model calls that were reserved and that nobody will settle: their turn is not tried again."""

from __future__ import annotations

from sqlalchemy import Integer, cast, func, literal, or_, select

from conclave.conversations.repository import ConversationRepository
from conclave.db import Database, Transaction
from schema.tables.conversations import ConversationRow
from schema.tables.model_calls import ModelCallRow

BATCH = 100
GRACE_SECONDS = 600
"""On top of the time a model call may take: every attempt is over by then, dead or not."""


class LeftCalls:
    """Upkeep, run every minute. It may run twice at once: who runs later finds nothing."""

    def __init__(self, db: Database, *, grace_seconds: int = GRACE_SECONDS) -> None:
        self._db = db
        self._grace = grace_seconds
        self._conversations = ConversationRepository()

    async def run(self) -> int:
        """Settle what is left at its worst case: it may have been sent. Return how many."""
        async with self._db.transaction() as tx:
            left = await self._left(tx)
        for conversation_id, call_id in left:
            async with self._db.transaction() as tx:
                # As everywhere: the conversation is locked before its calls and the counters.
                await self._conversations.get(tx, conversation_id, lock=True)
                await self._conversations.settle_cut_call(tx, call_id)
        return len(left)

    async def _left(self, tx: Transaction) -> list[tuple[int, int]]:
        """Return (conversation, call): past their time, or of a turn that was given up."""
        age = func.extract("epoch", func.clock_timestamp() - ModelCallRow.created_at)
        is_given_up = or_(
            ConversationRow.final,
            ConversationRow.execution != ModelCallRow.execution,
            ConversationRow.fence.is_distinct_from(ModelCallRow.id),
        )
        most = ConversationRow.turn_timeout + literal(self._grace, Integer)
        rows = await tx.conn.execute(
            select(ModelCallRow.conversation_id, ModelCallRow.id)
            .join(ConversationRow, ConversationRow.id == ModelCallRow.conversation_id)
            .where(
                ModelCallRow.status == literal("reserved"),
                or_(cast(age, Integer) > most, is_given_up),
            )
            .order_by(ModelCallRow.created_at)
            .limit(BATCH)
        )
        return [(conversation_id, call_id) for conversation_id, call_id in rows]

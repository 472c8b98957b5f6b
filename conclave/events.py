"""The event log: what happened, stored with the change, read in order.

Within a stream `seq` grows by one without gaps. Across streams readers go by (xid, id) and stop
at the oldest transaction still running, because serial ids become visible out of order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import BigInteger, literal_column, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert

from conclave.db import Transaction
from conclave.ports import EventBus
from schema.domain.events import Event, EventDraft
from schema.tables.events import EventRow, StreamRow, Xid8

_OLDEST_RUNNING = literal_column("pg_snapshot_xmin(pg_current_snapshot())", Xid8())
_XID = literal_column("events.xid::text::bigint", BigInteger()).label("xid")
_COLUMNS = (
    EventRow.id,
    _XID,
    EventRow.stream,
    EventRow.seq,
    EventRow.type,
    EventRow.data,
    EventRow.conversation_id,
    EventRow.circle_id,
    EventRow.agent_id,
    EventRow.owner,
    EventRow.created_at,
)


class EventLog:
    """Appends to and reads from the `events` table."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus

    async def append(self, tx: Transaction, drafts: Sequence[EventDraft]) -> None:
        """Store events in order; watchers are told after the commit."""
        last = await self._advance_streams(tx, Counter(draft.stream for draft in drafts))
        rows: list[dict[str, object]] = []
        for draft in reversed(drafts):
            rows.append({**draft.model_dump(), "seq": last[draft.stream]})
            last[draft.stream] -= 1
        await tx.conn.execute(insert(EventRow), list(reversed(rows)))
        if self._bus.poke not in tx.after_commit:
            tx.after_commit.append(self._bus.poke)

    async def _advance_streams(self, tx: Transaction, counts: Counter[str]) -> dict[str, int]:
        """Raise each stream's counter, in name order so that writers cannot deadlock."""
        statement = insert(StreamRow).values(
            [{"name": name, "last_seq": counts[name]} for name in sorted(counts)]
        )
        statement = statement.on_conflict_do_update(
            index_elements=[StreamRow.name],
            set_={"last_seq": StreamRow.last_seq + statement.excluded.last_seq},
        )
        result = await tx.conn.execute(statement.returning(StreamRow.name, StreamRow.last_seq))
        return {name: last for name, last in result.tuples()}

    async def of_stream(
        self, tx: Transaction, stream: str, *, after_seq: int, limit: int = 500
    ) -> list[Event]:
        """Return a stream's events after `after_seq`, in order."""
        result = await tx.conn.execute(
            select(*_COLUMNS)
            .where(EventRow.stream == stream, EventRow.seq > after_seq)
            .order_by(EventRow.seq)
            .limit(limit)
        )
        return [Event.model_validate(row) for row in result.mappings()]

    async def since(
        self, tx: Transaction, cursor: tuple[int, int], *, limit: int = 1000
    ) -> list[Event]:
        """Return events of every stream after the cursor (xid, id), in that order.

        What a transaction still running may yet put before them is waited for.
        """
        xid, event_id = cursor
        result = await tx.conn.execute(
            select(*_COLUMNS)
            .where(
                tuple_(EventRow.xid, EventRow.id)
                > tuple_(text("CAST(CAST(:xid AS text) AS xid8)"), text(":id")),
                EventRow.xid < _OLDEST_RUNNING,
            )
            .order_by(EventRow.xid, EventRow.id)
            .limit(limit),
            {"xid": str(xid), "id": event_id},
        )
        return [Event.model_validate(row) for row in result.mappings()]

    async def head(self, tx: Transaction) -> tuple[int, int]:
        """Return the cursor from which only what happens from now on is read."""
        result = await tx.conn.execute(
            text("SELECT (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint - 1")
        )
        return int(result.scalar_one()), 2**62

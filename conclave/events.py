"""The event log: what happened, stored with the change, read in order.

Within a stream `seq` grows by one without gaps. Across streams readers go by (xid, id) and stop
at the oldest transaction still running, because serial ids become visible out of order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import TextClause, text
from sqlalchemy.engine import RowMapping

from conclave.db import Transaction
from conclave.ports.events import EventBus
from schema.domain.events import Event, EventDraft, EventType

Cursor = tuple[int, int]
"""(xid, id) of the last event read."""

_COLUMNS = """
    id, xid::text::bigint AS xid, stream, seq, type, data,
    conversation_id, circle_id, agent_id, owner, created_at
"""

# One round trip: the counters are raised in name order, so that writers cannot deadlock, and
# `behind` (how many drafts of the stream follow) turns a counter's new value into each seq.
_DRAFTS = """
    SELECT * FROM jsonb_to_recordset(CAST(:drafts AS jsonb)) AS draft(
        place int, behind int, stream text, type text, data jsonb,
        conversation_id bigint, circle_id bigint, agent_id bigint, owner text
    )
"""
_RAISED = """
    INSERT INTO streams AS held (name, last_seq)
    SELECT stream, count(*) FROM drafts GROUP BY stream ORDER BY stream
    ON CONFLICT (name) DO UPDATE SET last_seq = held.last_seq + excluded.last_seq
    RETURNING name, last_seq
"""
_STORED = """
    INSERT INTO events (stream, seq, type, data, conversation_id, circle_id, agent_id, owner)
    SELECT stream, last_seq - behind, type, data, conversation_id, circle_id, agent_id, owner
    FROM drafts JOIN raised ON raised.name = drafts.stream
    ORDER BY place
"""
_APPEND = text(f"WITH drafts AS MATERIALIZED ({_DRAFTS}), raised AS ({_RAISED}) {_STORED}")


def telling(change: str) -> TextClause:
    """Return a statement that changes something and, where it did, stores events: one round trip.

    `change` is an UPDATE, INSERT or DELETE that returns a row where it changed something. For
    `EventLog.change`.
    """
    return text(
        f"""
        WITH changed AS ({change}),
            drafts AS MATERIALIZED ({_DRAFTS} WHERE EXISTS (SELECT FROM changed)),
            raised AS ({_RAISED}), stored AS ({_STORED})
        SELECT * FROM changed
        """
    )


_OF_STREAM = text(
    f"""
    SELECT {_COLUMNS} FROM events
    WHERE stream = :stream AND seq > :after_seq
    ORDER BY seq LIMIT :limit
    """
)

_SINCE = text(
    f"""
    SELECT {_COLUMNS}, xid < pg_snapshot_xmin(pg_current_snapshot()) AS settled FROM events
    WHERE (xid, id) > (CAST(CAST(:xid AS text) AS xid8), CAST(:id AS bigint))
    ORDER BY events.xid, id LIMIT :limit
    """
)

_LAST_SEQ = text("SELECT last_seq FROM streams WHERE name = :stream")

_HEAD = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1")

_LAST_ID = 2**63 - 1


class Page(NamedTuple):
    """Events read across streams; within each stream they stand in order of `seq`.

    `held_back` says that more are committed which a transaction still running keeps back.
    """

    events: list[Event]
    cursor: Cursor
    held_back: bool


class EventLog:
    """Appends to and reads from the `events` table."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus

    async def append(self, tx: Transaction, drafts: Sequence[EventDraft]) -> None:
        """Store events in order, all of a transaction in one statement before its commit, so that
        their streams are locked for that alone; watchers are told after it."""
        if not drafts:
            return
        if not tx.events:
            tx.before_commit.append(lambda: self._store(tx))
        tx.events.extend(drafts)
        self.tell_after_commit(tx)

    async def _store(self, tx: Transaction) -> None:
        drafts = list(tx.events)
        tx.events.clear()
        if not drafts:
            return
        await tx.conn.execute(_APPEND, {"drafts": json.dumps(_numbered(drafts))})
        for draft in drafts:
            if draft.type is EventType.MESSAGE_CREATED and draft.conversation_id is not None:
                self._bus.flush(draft.conversation_id)

    async def change(
        self,
        tx: Transaction,
        statement: TextClause,
        values: Mapping[str, object],
        drafts: Sequence[EventDraft],
    ) -> RowMapping | None:
        """Run a statement of `telling`; return the row that it changed, None where it did not.

        Locks as `append` does: in a transaction this comes last, or alone with `autocommit`.
        """
        await self._store(tx)
        given = {**values, "drafts": json.dumps(_numbered(drafts))}
        row = (await tx.conn.execute(statement, given)).mappings().one_or_none()
        if row is not None and drafts:
            self.tell_after_commit(tx)
        return row

    def tell_after_commit(self, tx: Transaction) -> None:
        """Tell watchers after the commit that there is something to read."""
        if self._bus.poke not in tx.after_commit:
            tx.after_commit.append(self._bus.poke)

    async def of_stream(
        self, tx: Transaction, stream: str, *, after_seq: int, limit: int = 500
    ) -> list[Event]:
        """Return a stream's events after `after_seq`, in order."""
        result = await tx.conn.execute(
            _OF_STREAM, {"stream": stream, "after_seq": after_seq, "limit": limit}
        )
        return [Event.model_validate(row) for row in result.mappings()]

    async def last_seq(self, tx: Transaction, stream: str) -> int:
        """Return the `seq` of a stream's last event, 0 where there is none."""
        result = await tx.conn.execute(_LAST_SEQ, {"stream": stream})
        return result.scalar_one_or_none() or 0

    async def since(self, tx: Transaction, cursor: Cursor, *, limit: int = 1000) -> Page:
        """Return events of every stream after the cursor, in order of (xid, id).

        What a transaction still running may yet put before them is waited for.
        """
        result = await tx.conn.execute(
            _SINCE, {"xid": str(cursor[0]), "id": cursor[1], "limit": limit}
        )
        rows = result.mappings().all()
        ready = _ready(rows)
        events = [Event.model_validate(row) for row in rows[:ready]]
        last = (events[-1].xid, events[-1].id) if events else cursor
        return Page(_by_stream(events), last, held_back=ready < len(rows))

    async def head(self, tx: Transaction) -> Cursor:
        """Return the cursor from which only what is not yet settled is read."""
        result = await tx.conn.execute(_HEAD)
        return int(result.scalar_one()), _LAST_ID


def _numbered(drafts: Sequence[EventDraft]) -> list[dict[str, object]]:
    left = Counter(draft.stream for draft in drafts)
    rows: list[dict[str, object]] = []
    for place, draft in enumerate(drafts):
        left[draft.stream] -= 1
        rows.append({**draft.model_dump(), "place": place, "behind": left[draft.stream]})
    return rows


def _ready(rows: Sequence[RowMapping]) -> int:
    """Count the rows that may be read now.

    A transaction that got its xid early may append late: its event precedes, by xid, one with a
    lower seq. Until that one is settled too, neither is read.
    """
    lowest_held: dict[str, int] = {}
    for row in rows:
        if not row["settled"]:
            lowest_held[row["stream"]] = min(lowest_held.get(row["stream"], row["seq"]), row["seq"])
    for place, row in enumerate(rows):
        if not row["settled"] or row["seq"] > lowest_held.get(row["stream"], row["seq"]):
            return place
    return len(rows)


def _by_stream(events: list[Event]) -> list[Event]:
    """Put each stream's events into the order of their seq, leaving the streams' places."""
    in_order: dict[str, list[Event]] = {}
    for event in sorted(events, key=lambda event: event.seq, reverse=True):
        in_order.setdefault(event.stream, []).append(event)
    return [in_order[event.stream].pop() for event in events]

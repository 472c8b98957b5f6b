"""All SQL on what comes in from outside."""

from __future__ import annotations

from datetime import timedelta

from pydantic import JsonValue
from sqlalchemy import func, or_, select, text
from sqlalchemy.dialects.postgresql import insert

from conclave.db import Transaction
from schema.domain.base import Shape
from schema.tables.triggers import InboundEventRow

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 17))")


class NewInbound(Shape):
    """A delivery about to be stored.

    `identity` tells the same content under another delivery id, for `same_seconds`.
    """

    source: str
    delivery_id: str
    identity: str | None
    same_seconds: int
    event_name: str | None
    action: str | None
    status: str
    trigger_id: int | None
    headers: dict[str, JsonValue]
    body: JsonValue
    body_bytes: int


class InboundRepository:
    """A delivery id is stored once for its source, the same content once for a while."""

    async def store(self, tx: Transaction, new: NewInbound) -> tuple[int, bool]:
        """Return the id of the stored event, and whether it is new.

        Deliveries of one content wait for each other here.
        """
        if new.identity is not None:
            await tx.conn.execute(_LOCK, {"name": f"{new.source}\x1f{new.identity}"})
        earlier = await self._earlier(tx, new)
        if earlier is not None:
            return earlier, False
        added = await tx.conn.execute(
            insert(InboundEventRow)
            .values(**new.model_dump(exclude={"same_seconds"}))
            .on_conflict_do_nothing()
            .returning(InboundEventRow.id)
        )
        added_id = added.scalar_one_or_none()
        if added_id is not None:
            return added_id, True
        earlier = await self._earlier(tx, new)
        assert earlier is not None, "what was in the way is committed"
        return earlier, False

    async def _earlier(self, tx: Transaction, new: NewInbound) -> int | None:
        same = InboundEventRow.delivery_id == new.delivery_id
        if new.identity is not None:
            since = func.clock_timestamp() - timedelta(seconds=new.same_seconds)
            recent = InboundEventRow.created_at > since
            same = or_(same, (InboundEventRow.identity == new.identity) & recent)
        return await tx.conn.scalar(
            select(InboundEventRow.id)
            .where(InboundEventRow.source == new.source, same)
            .order_by(InboundEventRow.id)
            .limit(1)
        )

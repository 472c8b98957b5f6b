"""Events and the counters of their streams."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from schema.tables.base import Base, CreatedAt, Document, Id


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Return the SQL name."""
        return "xid8"


class StreamRow(Base):
    """`last_seq` is raised under the row's lock, so that a stream has no gaps."""

    __tablename__ = "streams"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    last_seq: Mapped[int] = mapped_column(BigInteger)


class EventRow(Base):
    """Stored in the transaction of the change it tells of.

    Across streams the order is (xid, id): serial ids become visible out of order.
    """

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("stream", "seq"),
        Index("ix_events_xid_id", "xid", "id"),
    )

    id: Mapped[Id]
    xid: Mapped[int] = mapped_column(Xid8, server_default=text("pg_current_xact_id()"))
    stream: Mapped[str] = mapped_column(String(64))
    seq: Mapped[int] = mapped_column(BigInteger)
    type: Mapped[str] = mapped_column(String(64))
    data: Mapped[Document]
    conversation_id: Mapped[int | None] = mapped_column(BigInteger)
    circle_id: Mapped[int | None] = mapped_column(BigInteger)
    agent_id: Mapped[int | None] = mapped_column(BigInteger)
    owner: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[CreatedAt]

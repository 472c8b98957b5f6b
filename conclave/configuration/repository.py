"""All SQL on the rows of plain settings."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue
from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from conclave.db import Transaction
from schema.tables.settings import SettingRow

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('conclave settings', 0))")


class SettingRepository:
    """Rows exist only where something was stored."""

    async def lock(self, tx: Transaction) -> None:
        """Let one change of settings follow the other, until this transaction ends."""
        await tx.conn.execute(_LOCK)

    async def ping(self, tx: Transaction) -> None:
        """Ask for nothing: a pooled connection may have died unseen."""
        await tx.conn.execute(select(1))

    async def read(self, tx: Transaction, names: Sequence[str]) -> dict[str, JsonValue]:
        """Return those of the rows that are stored."""
        rows = await tx.conn.execute(
            select(SettingRow.key, SettingRow.value).where(SettingRow.key.in_(names))
        )
        return {str(key): value for key, value in rows}

    async def store(self, tx: Transaction, name: str, value: JsonValue) -> None:
        """Store one row."""
        statement = insert(SettingRow).values(key=name, value=value)
        statement = statement.on_conflict_do_update(
            index_elements=[SettingRow.key],
            set_={"value": value, "updated_at": func.clock_timestamp()},
        )
        await tx.conn.execute(statement)

    async def remove(self, tx: Transaction, name: str) -> None:
        """Remove one row, if it is there."""
        await tx.conn.execute(delete(SettingRow).where(SettingRow.key == name))

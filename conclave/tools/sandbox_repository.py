"""All SQL on the sandbox's settings."""

from __future__ import annotations

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert

from conclave.db import Transaction
from schema.domain.sandbox import SandboxConfig
from schema.tables.settings import SettingRow

_KEY = "sandbox.config"
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('conclave sandbox config', 0))")


class SandboxConfigRepository:
    """One row."""

    async def lock(self, tx: Transaction) -> None:
        """Let one change follow the other, until this transaction ends."""
        await tx.conn.execute(_LOCK)

    async def get(self, tx: Transaction) -> SandboxConfig:
        """Return what is stored over the defaults."""
        found = await tx.conn.scalar(select(SettingRow.value).where(SettingRow.key == _KEY))
        return SandboxConfig.model_validate(found or {})

    async def store(self, tx: Transaction, config: SandboxConfig) -> None:
        """Store all of it."""
        value = config.model_dump(mode="json")
        statement = insert(SettingRow).values(key=_KEY, value=value)
        statement = statement.on_conflict_do_update(
            index_elements=[SettingRow.key],
            set_={"value": value, "updated_at": func.clock_timestamp()},
        )
        await tx.conn.execute(statement)

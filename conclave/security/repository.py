"""All SQL on the security settings and the IP rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from pydantic import JsonValue
from sqlalchemy import delete, func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert

from conclave.db import Transaction
from schema.domain.security import IpRule
from schema.tables.identity import IpRuleRow, UserRow
from schema.tables.settings import SettingRow

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('conclave security', 0))")
_KEY = "security"
"""The row that holds what was set of SecurityConfig, section by section."""


class SecurityRepository:
    """One document of what was set; a table of rules."""

    async def lock(self, tx: Transaction) -> None:
        """Let one change follow the other, until this transaction ends."""
        await tx.conn.execute(_LOCK)

    async def document(self, tx: Transaction) -> dict[str, dict[str, JsonValue]]:
        """Return what was set."""
        row = await tx.conn.execute(select(SettingRow.value).where(SettingRow.key == _KEY))
        return cast("dict[str, dict[str, JsonValue]]", row.scalar_one_or_none() or {})

    async def store(self, tx: Transaction, document: Mapping[str, Mapping[str, JsonValue]]) -> None:
        """Store what is set from now on."""
        statement = upsert(SettingRow).values(key=_KEY, value=document)
        statement = statement.on_conflict_do_update(
            index_elements=[SettingRow.key],
            set_={"value": document, "updated_at": func.clock_timestamp()},
        )
        await tx.conn.execute(statement)

    async def count_users(self, tx: Transaction) -> tuple[int, int]:
        """Return how many users there are, and how many of them have a second factor."""
        row = await tx.conn.execute(
            select(func.count(), func.count(UserRow.mfa_secret)).where(UserRow.deleted_at.is_(None))
        )
        users, with_mfa = row.one()
        return users, with_mfa

    async def unknown_users(self, tx: Transaction, user_ids: Sequence[int]) -> list[int]:
        """Return those that are no users, in their order."""
        if not user_ids:
            return []
        there = select(UserRow.id).where(UserRow.id.in_(user_ids), UserRow.deleted_at.is_(None))
        found = set(await tx.conn.scalars(there))
        return [one for one in user_ids if one not in found]

    async def ip_rules(self, tx: Transaction) -> Sequence[IpRule]:
        """Return the rules in their order."""
        rows = await tx.conn.execute(select(IpRuleRow.__table__).order_by(IpRuleRow.id))
        return [IpRule.model_validate(row) for row in rows.mappings()]

    async def replace_ip_rules(
        self, tx: Transaction, rules: Sequence[Mapping[str, object]]
    ) -> None:
        """Put these rows in the place of all there are, in their order."""
        await tx.conn.execute(delete(IpRuleRow))
        if rules:
            await tx.conn.execute(insert(IpRuleRow).values(list(rules)))

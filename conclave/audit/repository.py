"""All SQL on the audit log, but for the insert that writers make (`conclave.auditing`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Text,
    any_,
    bindparam,
    cast,
    delete,
    exists,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

from conclave.audit.commands import AuditFilter
from conclave.db import Transaction
from schema.domain.audit import AuditEntry, AuditSeal, SealableEntry
from schema.tables.audit import AuditEntryRow, AuditSealRow, AuditWaitingRow

_LOCK = 4_702_118_566_930_217
"""Any fixed number: all sealers must mean the same lock."""

_ENTRY = AuditEntryRow.__table__.columns
_SEALABLE = tuple(
    cast(column, Text).label("changes") if column.name == "changes" else column for column in _ENTRY
)
_SEAL = tuple(AuditSealRow.__table__.columns)
_IS_ANY_WAITING = select(exists(select(AuditWaitingRow.entry_id)))
_BY_IDS = select(*_SEALABLE).where(
    AuditEntryRow.id == any_(bindparam("ids", type_=ARRAY(BigInteger)))
)
_SEALED_TWICE = text(
    """
    SELECT entry_id FROM (
        SELECT unnest(entry_ids) AS entry_id FROM audit_seals
        UNION ALL SELECT entry_id FROM audit_waiting
    ) AS named GROUP BY entry_id HAVING count(*) > 1 ORDER BY entry_id LIMIT 1
    """
)
_NEITHER = text(
    """
    SELECT id FROM audit_entries
    EXCEPT (SELECT unnest(entry_ids) FROM audit_seals UNION ALL SELECT entry_id FROM audit_waiting)
    ORDER BY id LIMIT 1
    """
)
_WAITING_FOR_NOTHING = text(
    """
    SELECT entry_id FROM audit_waiting AS waiting
    WHERE NOT EXISTS (SELECT FROM audit_entries WHERE id = waiting.entry_id)
    ORDER BY entry_id LIMIT 1
    """
)


class AuditRepository:
    """For readers, the sealer and the verifier."""

    async def list(
        self, tx: Transaction, wanted: AuditFilter, limit: int, offset: int
    ) -> tuple[Sequence[AuditEntry], int]:
        """Return a piece of the log, newest first, and how many entries fit."""
        conditions = _conditions(wanted)
        total = await tx.conn.execute(
            select(func.count()).select_from(AuditEntryRow).where(*conditions)
        )
        rows = await tx.conn.execute(
            select(*_ENTRY)
            .where(*conditions)
            .order_by(AuditEntryRow.id.desc())
            .limit(limit)
            .offset(offset)
        )
        return [AuditEntry.model_validate(row) for row in rows.mappings()], total.scalar_one()

    async def is_any_waiting(self, tx: Transaction) -> bool:
        """Whether an entry waits for a seal."""
        return bool(await tx.conn.scalar(_IS_ANY_WAITING))

    async def try_lock(self, tx: Transaction) -> bool:
        """Take the lock of sealers for this transaction; False while another holds it."""
        return bool(await tx.conn.scalar(select(func.pg_try_advisory_xact_lock(_LOCK))))

    async def take_waiting(self, tx: Transaction, limit: int) -> list[SealableEntry]:
        """Lock the oldest entries that wait, and return them in order of id.

        One that waits and is not there is left where it is: the verifier tells of it.
        """
        rows = await tx.conn.execute(
            select(*_SEALABLE)
            .join(AuditWaitingRow, AuditWaitingRow.entry_id == AuditEntryRow.id)
            .order_by(AuditWaitingRow.entry_id)
            .limit(limit)
            .with_for_update(of=AuditWaitingRow, skip_locked=True)
        )
        return [SealableEntry.model_validate(row) for row in rows.mappings()]

    async def last_seal(self, tx: Transaction) -> AuditSeal | None:
        """Return the end of the chain."""
        rows = await tx.conn.execute(select(*_SEAL).order_by(AuditSealRow.id.desc()).limit(1))
        row = rows.mappings().one_or_none()
        return None if row is None else AuditSeal.model_validate(row)

    async def now(self, tx: Transaction) -> datetime:
        """Return the database's time: the one clock that entries and seals share."""
        return (await tx.conn.execute(select(func.clock_timestamp()))).scalar_one()

    async def add_seal(self, tx: Transaction, seal: AuditSeal) -> None:
        """Store a seal; its id is taken where another sealer was faster."""
        await tx.conn.execute(insert(AuditSealRow).values(**seal.model_dump()))

    async def strike_waiting(self, tx: Transaction, entry_ids: Sequence[int]) -> None:
        """Entries that are sealed wait no longer."""
        await tx.conn.execute(
            delete(AuditWaitingRow).where(AuditWaitingRow.entry_id.in_(entry_ids))
        )

    async def freeze(self, tx: Transaction) -> None:
        """Let every later read of this transaction see the same moment: its first statement."""
        await tx.conn.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))

    async def seals_after(self, tx: Transaction, seal_id: int, limit: int) -> list[AuditSeal]:
        """Return the next seals in order."""
        rows = await tx.conn.execute(
            select(*_SEAL).where(AuditSealRow.id > seal_id).order_by(AuditSealRow.id).limit(limit)
        )
        return [AuditSeal.model_validate(row) for row in rows.mappings()]

    async def entries(self, tx: Transaction, ids: Sequence[int]) -> dict[int, SealableEntry]:
        """Return those of the entries that exist."""
        rows = await tx.conn.execute(_BY_IDS, {"ids": list(ids)})
        return {row["id"]: SealableEntry.model_validate(row) for row in rows.mappings()}

    async def waiting(self, tx: Transaction) -> int:
        """Return how many entries no seal covers yet."""
        return await tx.conn.scalar(select(func.count()).select_from(AuditWaitingRow)) or 0

    async def sealed_twice(self, tx: Transaction) -> int | None:
        """Return an entry that is named twice, by seals or as waiting besides."""
        return await tx.conn.scalar(_SEALED_TWICE)

    async def neither(self, tx: Transaction) -> int | None:
        """Return an entry that no seal names and that does not wait."""
        return await tx.conn.scalar(_NEITHER)

    async def waiting_for_nothing(self, tx: Transaction) -> int | None:
        """Return the id of an entry that waits and is not there."""
        return await tx.conn.scalar(_WAITING_FOR_NOTHING)


def _conditions(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.action is not None:
        conditions.append(AuditEntryRow.action == wanted.action)
    if wanted.resource_type is not None:
        conditions.append(AuditEntryRow.resource_type == wanted.resource_type)
    if wanted.actor_id is not None:
        conditions.append(AuditEntryRow.actor_id == wanted.actor_id)
    if wanted.since is not None:
        conditions.append(AuditEntryRow.created_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(AuditEntryRow.created_at < wanted.until)
    return conditions

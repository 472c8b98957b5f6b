"""All SQL on secrets. Whole rows are read by id or name of live secrets only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from psycopg.errors import UniqueViolation
from sqlalchemy import (
    ColumnElement,
    Integer,
    cast,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.engine import RowMapping
from sqlalchemy.exc import IntegrityError

from conclave.db import Transaction
from conclave.resealing import SealedColumn
from conclave.secrets.envelope import data_key_context
from conclave.secrets.errors import SecretNameTaken
from schema.domain.base import Shape
from schema.domain.secrets import ExpiringSecret, Secret
from schema.tables.secrets import SecretRow, SecretVersionRow

SEALED_PLACES = (SealedColumn(SecretRow, SecretRow.id, SecretRow.data_key, data_key_context),)

_NOW = func.clock_timestamp()
_LIVE = SecretRow.deleted_at.is_(None)
_EXPIRED = func.coalesce(SecretRow.expires_at <= _NOW, literal(False))
_COLUMNS = (
    SecretRow.id,
    SecretRow.name,
    SecretRow.category,
    SecretRow.description,
    SecretRow.version,
    SecretRow.expires_at,
    _EXPIRED.label("is_expired"),
    SecretRow.rotated_at,
    SecretRow.rotated_by,
    SecretRow.accessed_count,
    SecretRow.last_accessed_at,
    SecretRow.created_by,
    SecretRow.created_at,
    SecretRow.updated_at,
)
_DAYS_LEFT = cast(
    func.ceil(func.extract("epoch", SecretRow.expires_at - _NOW) / 86400), Integer
).label("days_until_expiry")

# A secret that is being changed is noted the next time: a use never waits for it.
_NOTE_USE = text(
    """
    UPDATE secrets SET last_accessed_at = clock_timestamp() WHERE id IN (
        SELECT id FROM secrets WHERE id = :id AND (
            last_accessed_at IS NULL OR last_accessed_at < clock_timestamp() - interval '1 minute'
        ) FOR UPDATE SKIP LOCKED
    )
    """
)


class SealedSecret(Shape):
    """A secret's present version, encrypted."""

    id: int
    version: int
    expires_at: datetime | None
    is_expired: bool
    data_key: bytes | None
    ciphertext: bytes


class SecretRepository:
    """A deleted secret has neither data key nor ciphertexts; its name is free again."""

    async def next_id(self, tx: Transaction) -> int:
        """Reserve an id: what a secret is encrypted with is bound to it."""
        statement = select(func.nextval(func.pg_get_serial_sequence("secrets", "id")))
        return (await tx.conn.execute(statement)).scalar_one()

    async def insert(
        self, tx: Transaction, values: Mapping[str, object], ciphertext: bytes
    ) -> Secret:
        """Store a secret with its first version. Raises `SecretNameTaken`."""
        statement = insert(SecretRow).values(version=1, **values).returning(*_COLUMNS)
        try:
            result = await tx.conn.execute(statement)
        except IntegrityError as error:
            raise _of_integrity(error) from None
        secret = Secret.model_validate(result.mappings().one())
        await self.add_version(tx, secret.id, 1, ciphertext, secret.created_by)
        return secret

    async def add_version(
        self, tx: Transaction, secret_id: int, version: int, ciphertext: bytes, by: int | None
    ) -> None:
        """Store a version's ciphertext; earlier ones stay."""
        statement = insert(SecretVersionRow).values(
            secret_id=secret_id, version=version, ciphertext=ciphertext, created_by=by
        )
        await tx.conn.execute(statement)

    async def get(self, tx: Transaction, secret_id: int, *, lock: bool = False) -> Secret | None:
        """Return a live secret; locked, nobody else changes it before the transaction ends."""
        statement = select(*_COLUMNS).where(SecretRow.id == secret_id, _LIVE)
        if lock:
            statement = statement.with_for_update()
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else Secret.model_validate(row)

    async def sealed(
        self, tx: Transaction, *, secret_id: int | None = None, name: str | None = None
    ) -> SealedSecret | None:
        """Return the present version of a live secret, by its id or its name."""
        this = SecretRow.name == name if secret_id is None else SecretRow.id == secret_id
        statement = (
            select(
                SecretRow.id,
                SecretRow.version,
                SecretRow.expires_at,
                _EXPIRED.label("is_expired"),
                SecretRow.data_key,
                SecretVersionRow.ciphertext,
            )
            .join(
                SecretVersionRow,
                (SecretVersionRow.secret_id == SecretRow.id)
                & (SecretVersionRow.version == SecretRow.version),
            )
            .where(this, _LIVE)
        )
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else SealedSecret.model_validate(row)

    async def hold(self, tx: Transaction, name: str) -> bool | None:
        """Keep a secret from being changed before the transaction ends.

        Returns whether it has expired, None where there is none.
        """
        statement = select(_EXPIRED).where(SecretRow.name == name, _LIVE)
        statement = statement.with_for_update(read=True)
        return (await tx.conn.execute(statement)).scalar_one_or_none()

    async def list(
        self, tx: Transaction, category: str | None, limit: int, offset: int
    ) -> tuple[Sequence[Secret], int]:
        """Return a piece of the live secrets, newest first, and the number of them all."""
        wanted = _LIVE if category is None else _LIVE & (SecretRow.category == category)
        rows = await tx.conn.execute(
            select(*_COLUMNS)
            .where(wanted)
            .order_by(SecretRow.created_at.desc(), SecretRow.id.desc())
            .limit(limit)
            .offset(offset)
        )
        return [Secret.model_validate(row) for row in rows.mappings()], await _count(tx, wanted)

    async def expiring(
        self, tx: Transaction, days: int, limit: int, offset: int, *, include_expired: bool
    ) -> tuple[Sequence[ExpiringSecret], int]:
        """Return a piece of those that expire within `days`, soonest first, and their number."""
        wanted = _LIVE & (SecretRow.expires_at <= _NOW + _days(days))
        if not include_expired:
            wanted &= SecretRow.expires_at > _NOW
        rows = await tx.conn.execute(
            select(*_COLUMNS, _DAYS_LEFT)
            .where(wanted)
            .order_by(SecretRow.expires_at, SecretRow.id)
            .limit(limit)
            .offset(offset)
        )
        return _with_days(rows.mappings().all()), await _count(tx, wanted)

    async def data_key(self, tx: Transaction, secret_id: int) -> bytes | None:
        """Return the wrapped data key."""
        statement = select(SecretRow.data_key).where(SecretRow.id == secret_id)
        return (await tx.conn.execute(statement)).scalar_one()

    async def update(
        self,
        tx: Transaction,
        secret_id: int,
        values: Mapping[str, object],
        *,
        rotated: bool = False,
    ) -> Secret:
        """Set columns of a secret that is locked. Raises `SecretNameTaken`."""
        moments = {"updated_at": _NOW} | ({"rotated_at": _NOW} if rotated else {})
        statement = (
            update(SecretRow)
            .where(SecretRow.id == secret_id)
            .values(**values, **moments)
            .returning(*_COLUMNS)
        )
        try:
            result = await tx.conn.execute(statement)
        except IntegrityError as error:
            raise _of_integrity(error) from None
        return Secret.model_validate(result.mappings().one())

    async def note_reveal(self, tx: Transaction, secret_id: int) -> Secret:
        """Count a reveal."""
        statement = (
            update(SecretRow)
            .where(SecretRow.id == secret_id)
            .values(accessed_count=SecretRow.accessed_count + 1, last_accessed_at=_NOW)
            .returning(*_COLUMNS)
        )
        return Secret.model_validate((await tx.conn.execute(statement)).mappings().one())

    async def note_use(self, tx: Transaction, secret_id: int) -> None:
        """Note that a reference was resolved, at most once a minute."""
        await tx.conn.execute(_NOTE_USE, {"id": secret_id})

    async def erase(self, tx: Transaction, secret_id: int) -> None:
        """Delete a secret: its row stays, its data key and ciphertexts do not."""
        await tx.conn.execute(
            delete(SecretVersionRow).where(SecretVersionRow.secret_id == secret_id)
        )
        await tx.conn.execute(
            update(SecretRow)
            .where(SecretRow.id == secret_id)
            .values(data_key=None, deleted_at=_NOW, updated_at=_NOW)
        )

    async def due_for_notice(
        self, tx: Transaction, days: Sequence[int], limit: int
    ) -> Sequence[ExpiringSecret]:
        """Return secrets whose notice of one of these days is due, locked, soonest first."""
        due = or_(
            *(
                (SecretRow.expires_at <= _NOW + _days(day))
                & or_(SecretRow.notified_days.is_(None), SecretRow.notified_days > day)
                for day in days
            )
        )
        rows = await tx.conn.execute(
            select(*_COLUMNS, _DAYS_LEFT)
            .where(_LIVE, SecretRow.expires_at > _NOW, due)
            .order_by(SecretRow.expires_at, SecretRow.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return _with_days(rows.mappings().all())

    async def note_notice(self, tx: Transaction, secret_id: int, days: int) -> None:
        """Remember which notice was raised."""
        await tx.conn.execute(
            update(SecretRow).where(SecretRow.id == secret_id).values(notified_days=days)
        )


def _days(days: int) -> ColumnElement[timedelta]:
    """In hours: a calendar's day may have 23 or 25."""
    return func.make_interval(0, 0, 0, 0, 24 * days)


async def _count(tx: Transaction, wanted: ColumnElement[bool]) -> int:
    statement = select(func.count()).select_from(SecretRow).where(wanted)
    return (await tx.conn.execute(statement)).scalar_one()


def _with_days(rows: Sequence[RowMapping]) -> list[ExpiringSecret]:
    return [
        ExpiringSecret(
            secret=Secret.model_validate(row),
            days_until_expiry=row["days_until_expiry"],
        )
        for row in rows
    ]


def _of_integrity(error: IntegrityError) -> Exception:
    """Return the error of ours; the statement holds nothing in the clear but is not told."""
    return SecretNameTaken() if isinstance(error.orig, UniqueViolation) else error

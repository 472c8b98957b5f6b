"""All SQL on API keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import bindparam, case, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.engine import RowMapping
from sqlalchemy.types import String

from conclave.db import Transaction
from schema.domain.api_keys import ApiKey, ApiKeyStatus
from schema.domain.base import Shape
from schema.domain.identity import Role, Scope
from schema.tables.identity import ApiKeyRow

_STATUS = case(
    (ApiKeyRow.revoked_at.is_not(None), ApiKeyStatus.REVOKED.value),
    (ApiKeyRow.expires_at <= func.clock_timestamp(), ApiKeyStatus.EXPIRED.value),
    else_=ApiKeyStatus.ACTIVE.value,
)
_COLUMNS = (
    ApiKeyRow.id,
    ApiKeyRow.name,
    ApiKeyRow.key_prefix,
    ApiKeyRow.scopes,
    _STATUS.label("status"),
    ApiKeyRow.user_id,
    ApiKeyRow.expires_at,
    ApiKeyRow.last_used_at,
    ApiKeyRow.created_at,
)

# The key, its owner and the note of its use in one round trip. The note is written at most once a
# minute, and with it the hash under the key of the server that writes now.
_USE = text(
    """
    WITH found AS (
        SELECT k.id, k.user_id, k.scopes, k.revoked_at IS NOT NULL AS is_revoked,
            coalesce(k.expires_at <= clock_timestamp(), false) AS is_expired,
            u.role, u.is_active, u.deleted_at IS NOT NULL AS is_ownerless
        FROM api_keys k JOIN users u ON u.id = k.user_id
        WHERE k.key_hash = ANY(:hashes)
    ), noted AS (
        UPDATE api_keys k SET last_used_at = clock_timestamp(), key_hash = :written
        FROM found f
        WHERE k.id = f.id AND f.is_active
            AND NOT (f.is_revoked OR f.is_expired OR f.is_ownerless)
            AND (k.last_used_at IS NULL OR k.key_hash <> :written
                OR k.last_used_at < clock_timestamp() - interval '1 minute')
    )
    SELECT * FROM found
    """
).bindparams(bindparam("hashes", type_=ARRAY(String)))


class UsedKey(Shape):
    """A key somebody has just shown, with the account it acts for."""

    id: int
    user_id: int
    scopes: frozenset[Scope]
    is_revoked: bool
    is_expired: bool
    role: Role
    is_active: bool
    is_ownerless: bool


class ApiKeyRepository:
    """Keys are found by hash: the record never sees one."""

    async def insert(
        self,
        tx: Transaction,
        *,
        user_id: int,
        name: str,
        key_prefix: str,
        key_hash: str,
        scopes: Iterable[Scope],
        expires_at: datetime | None,
    ) -> ApiKey:
        """Store a key."""
        statement = insert(ApiKeyRow).values(
            user_id=user_id,
            name=name,
            key_prefix=key_prefix,
            key_hash=key_hash,
            scopes=_joined(scopes),
            expires_at=expires_at,
        )
        result = await tx.conn.execute(statement.returning(*_COLUMNS))
        return _api_key(result.mappings().one())

    async def use(self, tx: Transaction, hashes: Sequence[str]) -> UsedKey | None:
        """Return the key of one of these hashes and note its use; the first hash is kept."""
        result = await tx.conn.execute(_USE, {"hashes": list(hashes), "written": hashes[0]})
        row = result.mappings().one_or_none()
        if row is None:
            return None
        return UsedKey.model_validate({**row, "scopes": row["scopes"].split()})

    async def list(
        self, tx: Transaction, user_id: int | None, limit: int, offset: int
    ) -> tuple[Sequence[ApiKey], int]:
        """Return a piece of one user's keys, or of all, newest first, and how many there are."""
        wanted = () if user_id is None else (ApiKeyRow.user_id == user_id,)
        total = await tx.conn.execute(select(func.count()).select_from(ApiKeyRow).where(*wanted))
        result = await tx.conn.execute(
            select(*_COLUMNS)
            .where(*wanted)
            .order_by(ApiKeyRow.created_at.desc(), ApiKeyRow.id.desc())
            .limit(limit)
            .offset(offset)
        )
        return [_api_key(row) for row in result.mappings()], total.scalar_one()

    async def revoke(self, tx: Transaction, key_id: int, user_id: int | None) -> ApiKey | None:
        """Revoke a key of this user, or of anybody; None where there is none left to revoke."""
        wanted = () if user_id is None else (ApiKeyRow.user_id == user_id,)
        result = await tx.conn.execute(
            update(ApiKeyRow)
            .where(ApiKeyRow.id == key_id, ApiKeyRow.revoked_at.is_(None), *wanted)
            .values(revoked_at=func.clock_timestamp())
            .returning(*_COLUMNS)
        )
        row = result.mappings().one_or_none()
        return None if row is None else _api_key(row)


def _joined(scopes: Iterable[Scope]) -> str:
    """Return the scopes as the column holds them, in their own order."""
    held = set(scopes)
    return " ".join(scope.value for scope in Scope if scope in held)


def _api_key(row: RowMapping) -> ApiKey:
    return ApiKey.model_validate({**row, "scopes": row["scopes"].split()})

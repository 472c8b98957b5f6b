"""All SQL on sessions and their refresh tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from conclave.db import Transaction
from conclave.identity.shapes import Standing
from schema.domain.base import Shape
from schema.domain.users import UserSession
from schema.tables.identity import RefreshTokenRow, UserRow, UserSessionRow

# Asked at every request: one round trip, which also writes the last use where that is due.
# The outer SELECT sees the row as it was before, so the judgement does not depend on the write.
_STANDING = text(
    """
    WITH touched AS (
        UPDATE user_sessions SET last_active_at = :now
        WHERE id = :session_id AND user_id = :user_id AND revoked_at IS NULL
            AND expires_at > :now AND created_at > :begun_after
            AND last_active_at > :used_after AND last_active_at < :untouched_since
    )
    SELECT s.revoked_at IS NOT NULL AS is_revoked, s.expires_at,
        s.created_at AS session_created_at, s.last_active_at, u.role, u.is_active,
        u.mfa_secret IS NOT NULL AS mfa_enabled, u.password_changed_at,
        u.created_at AS user_created_at
    FROM user_sessions s JOIN users u ON u.id = s.user_id
    WHERE s.id = :session_id AND s.user_id = :user_id AND u.deleted_at IS NULL
    """
)
_COLUMNS = (
    UserSessionRow.id,
    UserSessionRow.user_id,
    UserRow.email.label("user_email"),
    UserSessionRow.ip_address,
    UserSessionRow.user_agent,
    UserSessionRow.created_at,
    UserSessionRow.last_active_at,
    UserSessionRow.expires_at,
)


class Horizon(Shape):
    """The moments that tell a session that holds from one that is over."""

    now: datetime
    begun_after: datetime
    used_after: datetime
    untouched_since: datetime


class RefreshToken(Shape):
    """A refresh token as the record has it."""

    session_id: int
    user_id: int
    killed_at: datetime | None


class SessionRepository:
    """A session lives while it is not revoked and within every limit of a `Horizon`."""

    async def standing(
        self, tx: Transaction, session_id: int, user_id: int, horizon: Horizon
    ) -> Standing | None:
        """Return what there is to judge an access token by, noting the session's use."""
        parameters: dict[str, object] = {
            "session_id": session_id,
            "user_id": user_id,
            "now": horizon.now,
            "begun_after": horizon.begun_after,
            "used_after": horizon.used_after,
            "untouched_since": horizon.untouched_since,
        }
        row = (await tx.conn.execute(_STANDING, parameters)).mappings().one_or_none()
        return None if row is None else Standing.model_validate(row)

    async def insert(self, tx: Transaction, values: Mapping[str, object]) -> int:
        """Store a session and return its id."""
        statement = insert(UserSessionRow).values(**values).returning(UserSessionRow.id)
        return (await tx.conn.execute(statement)).scalar_one()

    async def insert_refresh_token(
        self, tx: Transaction, jti: str, session_id: int, now: datetime, expires_at: datetime
    ) -> None:
        """Store a refresh token."""
        await tx.conn.execute(
            insert(RefreshTokenRow).values(
                jti=jti, session_id=session_id, created_at=now, expires_at=expires_at
            )
        )

    async def exchange(self, tx: Transaction, jti: str, now: datetime) -> bool:
        """Kill a refresh token; of two at once one alone gets True."""
        result = await tx.conn.execute(
            update(RefreshTokenRow)
            .where(
                RefreshTokenRow.jti == jti,
                RefreshTokenRow.killed_at.is_(None),
                RefreshTokenRow.expires_at > now,
            )
            .values(killed_at=now)
            .returning(RefreshTokenRow.jti)
        )
        return result.scalar_one_or_none() is not None

    async def refresh_token(self, tx: Transaction, jti: str) -> RefreshToken | None:
        """Return a refresh token."""
        result = await tx.conn.execute(
            select(
                RefreshTokenRow.session_id,
                UserSessionRow.user_id,
                RefreshTokenRow.killed_at,
            )
            .join(UserSessionRow, UserSessionRow.id == RefreshTokenRow.session_id)
            .where(RefreshTokenRow.jti == jti)
        )
        row = result.mappings().one_or_none()
        return None if row is None else RefreshToken.model_validate(row)

    async def get(
        self, tx: Transaction, session_id: int, horizon: Horizon, *, lock: bool = False
    ) -> UserSession | None:
        """Return a session that lives, locked against other changes where asked."""
        statement = _living(horizon).where(UserSessionRow.id == session_id)
        if lock:
            statement = statement.with_for_update(of=UserSessionRow)
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else UserSession.model_validate(row)

    async def list(
        self, tx: Transaction, user_id: int | None, horizon: Horizon, limit: int, offset: int
    ) -> tuple[Sequence[UserSession], int]:
        """Return a piece of the list of living sessions, newest first, and its whole length."""
        statement = _living(horizon)
        if user_id is not None:
            statement = statement.where(UserSessionRow.user_id == user_id)
        total = await tx.conn.execute(select(func.count()).select_from(statement.subquery()))
        rows = await tx.conn.execute(
            statement.order_by(UserSessionRow.created_at.desc(), UserSessionRow.id.desc())
            .limit(limit)
            .offset(offset)
        )
        return [UserSession.model_validate(row) for row in rows.mappings()], total.scalar_one()

    async def prolong(
        self, tx: Transaction, session_id: int, now: datetime, expires_at: datetime
    ) -> None:
        """Note a refresh: the session was used and ends later."""
        await tx.conn.execute(
            update(UserSessionRow)
            .where(UserSessionRow.id == session_id)
            .values(last_active_at=now, expires_at=expires_at)
        )

    async def revoke(
        self, tx: Transaction, session_ids: Sequence[int], reason: str, now: datetime
    ) -> Sequence[int]:
        """End sessions; return those that had not been ended before."""
        return await self._revoke(tx, UserSessionRow.id.in_(session_ids), reason, now)

    async def revoke_all(
        self, tx: Transaction, user_id: int, reason: str, now: datetime, *, keep: int | None = None
    ) -> Sequence[int]:
        """End every session of a user but one."""
        wanted = and_(UserSessionRow.user_id == user_id, UserSessionRow.id != (keep or 0))
        return await self._revoke(tx, wanted, reason, now)

    async def oldest(
        self, tx: Transaction, user_id: int, horizon: Horizon, *, beyond: int
    ) -> Sequence[int]:
        """Return the ids of living sessions that are older than the newest `beyond`."""
        living = _living(horizon).where(UserSessionRow.user_id == user_id)
        ids = living.with_only_columns(UserSessionRow.id)
        result = await tx.conn.execute(
            ids.order_by(UserSessionRow.created_at.desc(), UserSessionRow.id.desc()).offset(beyond)
        )
        return result.scalars().all()

    async def _revoke(
        self, tx: Transaction, wanted: ColumnElement[bool], reason: str, now: datetime
    ) -> Sequence[int]:
        result = await tx.conn.execute(
            update(UserSessionRow)
            .where(wanted, UserSessionRow.revoked_at.is_(None))
            .values(revoked_at=now, revoked_reason=reason)
            .returning(UserSessionRow.id)
        )
        return result.scalars().all()


def _living(horizon: Horizon) -> Select[*tuple[Any, ...]]:
    return (
        select(*_COLUMNS)
        .join(UserRow, UserRow.id == UserSessionRow.user_id)
        .where(
            UserSessionRow.revoked_at.is_(None),
            UserSessionRow.expires_at > horizon.now,
            UserSessionRow.created_at > horizon.begun_after,
            UserSessionRow.last_active_at > horizon.used_after,
            UserRow.deleted_at.is_(None),
        )
    )

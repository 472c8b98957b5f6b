"""All SQL on failed attempts."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, or_, select, text

from conclave.db import Transaction
from schema.domain.base import Shape
from schema.domain.security import LockoutPolicy
from schema.tables.identity import LoginAttemptsRow

# One statement, so that processes that count at once count right. A lock that is over, or a
# window that is, starts the count anew; while the lock holds it is neither kept nor extended.
_COUNT = text(
    """
    INSERT INTO login_attempts AS known (email, failures, window_started_at, locked_until)
    VALUES (:key, 1, :now, CASE WHEN :most <= 1 THEN CAST(:lock_end AS timestamptz) END)
    ON CONFLICT (email) DO UPDATE SET
        failures = CASE
            WHEN known.locked_until > :now THEN known.failures + 1
            WHEN known.locked_until IS NOT NULL OR known.window_started_at <= :window_start THEN 1
            ELSE known.failures + 1 END,
        window_started_at = CASE
            WHEN known.locked_until > :now THEN known.window_started_at
            WHEN known.locked_until IS NOT NULL OR known.window_started_at <= :window_start
                THEN :now
            ELSE known.window_started_at END,
        locked_until = CASE
            WHEN known.locked_until > :now THEN known.locked_until
            WHEN known.locked_until IS NOT NULL OR known.window_started_at <= :window_start
                THEN CASE WHEN :most <= 1 THEN CAST(:lock_end AS timestamptz) END
            WHEN known.failures + 1 >= :most THEN CAST(:lock_end AS timestamptz) END
    RETURNING failures, locked_until
    """
)


class Attempts(Shape):
    """Failures within the window, this one included."""

    failures: int
    locked_until: datetime | None


class AttemptRepository:
    """A key is an email in its normal form, or another name of whom failures count for."""

    async def locked_until(self, tx: Transaction, key: str, now: datetime) -> datetime | None:
        """Return when the lock ends, None where there is none."""
        result = await tx.conn.execute(
            select(LoginAttemptsRow.locked_until).where(
                LoginAttemptsRow.email == key, LoginAttemptsRow.locked_until > now
            )
        )
        return result.scalar_one_or_none()

    async def count(
        self, tx: Transaction, key: str, policy: LockoutPolicy, now: datetime
    ) -> Attempts:
        """Count a failure, locking where it is one too many."""
        result = await tx.conn.execute(
            _COUNT,
            {
                "key": key,
                "now": now,
                "most": policy.max_attempts,
                "window_start": now - timedelta(minutes=policy.window_minutes),
                "lock_end": now + timedelta(minutes=policy.lockout_minutes),
            },
        )
        return Attempts.model_validate(result.mappings().one())

    async def clear(self, tx: Transaction, key: str, *, unless_locked_at: datetime | None) -> None:
        """Forget the failures; a lock that holds at that moment stays."""
        statement = delete(LoginAttemptsRow).where(LoginAttemptsRow.email == key)
        if unless_locked_at is not None:
            until = LoginAttemptsRow.locked_until
            statement = statement.where(or_(until.is_(None), until <= unless_locked_at))
        await tx.conn.execute(statement)

"""The SQL that deletes what is over, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from conclave.db import Transaction
from schema.tables.base import Base
from schema.tables.identity import (
    LoginAttemptsRow,
    MfaChallengeRow,
    RefreshTokenRow,
    UserSessionRow,
)


@dataclass(frozen=True)
class Leftovers:
    """Which rows of a table are over."""

    table: type[Base]
    key: InstrumentedAttribute[Any]
    over: ColumnElement[bool]


def leftovers(now: datetime, stale: datetime) -> Sequence[Leftovers]:
    """Return what can go; failed attempts where the last window began before `stale`."""
    attempts = LoginAttemptsRow
    unlocked = or_(attempts.locked_until.is_(None), attempts.locked_until < now)
    return (
        Leftovers(RefreshTokenRow, RefreshTokenRow.jti, RefreshTokenRow.expires_at < now),
        Leftovers(UserSessionRow, UserSessionRow.id, UserSessionRow.expires_at < now),
        Leftovers(MfaChallengeRow, MfaChallengeRow.jti, MfaChallengeRow.expires_at < now),
        Leftovers(attempts, attempts.email, (attempts.window_started_at < stale) & unlocked),
    )


class UpkeepRepository:
    """Rows that somebody else holds are left for the next time."""

    async def delete_batch(self, tx: Transaction, what: Leftovers, limit: int) -> int:
        """Delete so many rows at most; return how many went."""
        chosen = select(what.key).where(what.over).limit(limit).with_for_update(skip_locked=True)
        result = await tx.conn.execute(
            delete(what.table).where(what.key.in_(chosen)).returning(what.key)
        )
        return len(result.all())

"""Notices of secrets that are about to expire."""

from __future__ import annotations

from datetime import UTC, datetime

from conclave.db import Database
from conclave.events import EventLog
from conclave.secrets.repository import SecretRepository
from schema.domain.events import ADMIN_OWNER, EventDraft, EventType
from schema.domain.secrets import ExpiringSecret

NOTICE_DAYS = (1, 7)
"""Days before the date, the nearest first. Each is raised once for a date."""
BATCH = 100
_STREAM = "secrets"


class ExpiryNotices:
    """Upkeep, run hourly. Several may run at once: each secret is taken by one of them."""

    def __init__(self, db: Database, events: EventLog) -> None:
        self._db = db
        self._events = events
        self._secrets = SecretRepository()

    async def run(self) -> int:
        """Raise the notices that are due, `BATCH` at most; return how many, 0: none is left."""
        async with self._db.transaction() as tx:
            due = await self._secrets.due_for_notice(tx, NOTICE_DAYS, BATCH)
            for one in due:
                await self._secrets.note_notice(tx, one.secret.id, _notice(one))
            if due:
                await self._events.append(tx, [_event(one) for one in due])
        return len(due)


def _notice(due: ExpiringSecret) -> int:
    """Return which of the notices this is: one day left makes the one of seven days idle."""
    return next(days for days in NOTICE_DAYS if due.days_until_expiry <= days)


def _event(due: ExpiringSecret) -> EventDraft:
    """What secrets there are is the administrators' to know."""
    secret = due.secret
    return EventDraft(
        stream=_STREAM,
        type=EventType.SECRET_EXPIRING,
        data={
            "id": secret.id,
            "name": secret.name,
            "expires_at": None if secret.expires_at is None else _utc(secret.expires_at),
            "days_until_expiry": due.days_until_expiry,
        },
        owner=ADMIN_OWNER,
    )


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")

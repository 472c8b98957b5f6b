"""Notifications: telling users in the product itself, and what they have read of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pydantic import JsonValue

from conclave.auditing import AuditLog
from conclave.db import Database, Transaction
from conclave.events import EventLog
from conclave.notifications.commands import NotificationFilter
from conclave.notifications.errors import NotificationNotFound
from conclave.notifications.repository import NotificationRepository
from schema.domain.events import EventDraft, EventType
from schema.domain.identity import Principal, PrincipalKind
from schema.domain.notifications import Notification, Severity

_LONGEST_TITLE = 255
_LONGEST_MESSAGE = 100_000


class NotificationService:
    """A `Notifier`, and the use cases of whoever is told.

    An API key sees what its user sees; callers that are no user have no notifications.
    """

    def __init__(self, db: Database, events: EventLog, audit: AuditLog) -> None:
        self._db = db
        self._events = events
        self._audit = audit
        self._notifications = NotificationRepository()

    async def notify(
        self,
        tx: Transaction,
        *,
        title: str,
        message: str,
        severity: Severity = Severity.INFO,
        event_type: str | None = None,
        user_ids: Collection[int] | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> list[int]:
        """Store one for each user and return their ids: see `Notifier`.

        Each is the only event of a stream of its own, so that no lock is held that another
        transaction could wait for.
        """
        values = {
            "title": _clipped(title, _LONGEST_TITLE),
            "message": _clipped(message, _LONGEST_MESSAGE),
            "severity": severity.value,
            "event_type": event_type,
            "metadata": dict(metadata or {}),
        }
        stored = await self._notifications.insert(tx, user_ids, values)
        await self._events.append(tx, [_event(one) for one in stored])
        return [one.id for one in stored]

    async def list(
        self, principal: Principal, wanted: NotificationFilter, limit: int, offset: int
    ) -> tuple[Sequence[Notification], int]:
        """Return a page of the caller's own, newest first, and the number of all."""
        if principal.user_id is None:
            return [], 0
        async with self._db.transaction() as tx:
            return await self._notifications.list(tx, principal.user_id, wanted, limit, offset)

    async def unread(self, principal: Principal) -> int:
        """Return how many the caller has not read."""
        if principal.user_id is None:
            return 0
        async with self._db.transaction() as tx:
            return await self._notifications.unread(tx, principal.user_id)

    async def read(self, notification_id: int, principal: Principal) -> Notification:
        """Mark one of the caller's own as read, once. Raises `NotificationNotFound`."""
        if principal.user_id is None:
            raise NotificationNotFound(notification_id)
        async with self._db.transaction() as tx:
            marked = await self._notifications.mark_read(tx, principal.user_id, notification_id)
            found = await self._notifications.get(tx, notification_id, principal.user_id)
            if found is None:
                raise NotificationNotFound(notification_id)
            if marked:
                await self._audit.record(tx, "notification_read", "notification", found.id)
        return found

    async def read_all(self, principal: Principal) -> int:
        """Mark all of the caller's own as read; return how many were not before."""
        if principal.user_id is None:
            return 0
        async with self._db.transaction() as tx:
            marked = await self._notifications.mark_read(tx, principal.user_id)
            if marked:
                changes: dict[str, JsonValue] = {"marked": marked}
                await self._audit.record(
                    tx, "notifications_read", "user", principal.user_id, changes=changes
                )
        return marked


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _event(notification: Notification) -> EventDraft:
    owner = Principal(kind=PrincipalKind.USER, user_id=notification.user_id)
    return EventDraft(
        stream=f"notification-{notification.id}",
        type=EventType.NOTIFICATION,
        data={
            "id": notification.id,
            "title": notification.title,
            "message": notification.message,
            "level": notification.severity.value,
            "created_at": notification.created_at.isoformat(),
        },
        owner=owner.key,
    )

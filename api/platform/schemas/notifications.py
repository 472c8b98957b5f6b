"""Notifications as this dialect writes them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, JsonValue

from api.platform.schemas.fields import Timestamp
from conclave.notifications.commands import NotificationFilter
from schema.domain.notifications import Notification, Severity


class NotificationQuery(BaseModel):
    """Which notifications are listed."""

    unread: bool | None = None
    severity: Severity | None = None

    def to_filter(self) -> NotificationFilter:
        """Return it in the core's words."""
        return NotificationFilter(unread=self.unread, severity=self.severity)


class NotificationOut(BaseModel):
    """What the caller is told."""

    id: int
    channel: Literal["in_app"] = "in_app"
    title: str
    message: str
    severity: Severity
    is_read: bool
    read_at: Timestamp | None
    event_type: str | None
    metadata: dict[str, JsonValue]
    created_at: Timestamp

    @classmethod
    def from_domain(cls, notification: Notification) -> NotificationOut:
        """Return a notification in this dialect's shape."""
        is_read = notification.read_at is not None
        return cls.model_validate({**notification.model_dump(), "is_read": is_read})


class UnreadOut(BaseModel):
    """How many are unread: the same number twice, for two kinds of clients."""

    unread_count: int
    count: int


class MarkedOut(BaseModel):
    """How many became read."""

    marked_count: int

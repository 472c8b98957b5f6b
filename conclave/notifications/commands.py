"""What can be asked of notifications."""

from __future__ import annotations

from schema.domain.base import Shape
from schema.domain.notifications import Severity


class NotificationFilter(Shape):
    """Which of a user's notifications are listed; None: any."""

    unread: bool | None = None
    severity: Severity | None = None

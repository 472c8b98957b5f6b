"""What can go wrong with notifications."""

from __future__ import annotations

from conclave.errors import NotFound


class NotificationNotFound(NotFound):
    """No such notification, or somebody else's."""

    code = "notification_not_found"

    def __init__(self, notification_id: int) -> None:
        super().__init__(f"Notification {notification_id} not found")

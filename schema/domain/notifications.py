"""Notifications: what people are told in the product itself."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import JsonValue

from schema.domain.base import Shape


class Severity(StrEnum):
    """How much a notification matters, least first."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class Notification(Shape):
    """What one user is told."""

    id: int
    user_id: int
    title: str
    message: str
    severity: Severity
    event_type: str | None
    metadata: dict[str, JsonValue]
    read_at: datetime | None
    created_at: datetime

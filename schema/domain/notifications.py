"""Notifications: what people are told in the product itself."""

from __future__ import annotations

from enum import StrEnum


class Severity(StrEnum):
    """How much a notification matters, least first."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

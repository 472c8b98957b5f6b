"""What can be asked of the audit log."""

from __future__ import annotations

from datetime import datetime

from schema.domain.base import Shape


class AuditFilter(Shape):
    """Which entries; `since` counts in, `until` does not."""

    action: str | None = None
    resource_type: str | None = None
    actor_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None

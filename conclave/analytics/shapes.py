"""What is counted over time."""

from __future__ import annotations

from datetime import date

from schema.domain.base import Shape


class TaskDay(Shape):
    """The tasks that were created on one day of UTC, by how they stand now."""

    date: date
    total: int
    completed: int
    failed: int

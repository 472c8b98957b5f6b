"""What was done, counted over time."""

from __future__ import annotations

from conclave.analytics.repository import AnalyticsRepository
from conclave.analytics.shapes import TaskDay
from conclave.db import Database


class AnalyticsService:
    """Counts what the record holds; nothing is kept besides."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._repository = AnalyticsRepository()

    async def task_days(self, days: int) -> list[TaskDay]:
        """Return the tasks of the last days, today among them, oldest first."""
        async with self._db.autocommit() as tx:
            return await self._repository.task_days(tx, days)

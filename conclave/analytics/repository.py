"""All SQL that counts over time."""

from __future__ import annotations

from sqlalchemy import Integer, bindparam, text

from conclave.analytics.shapes import TaskDay
from conclave.db import Transaction

# Days are UTC's. What is created on no day at all is a row of zeros.
_DAYS = text(
    """
    WITH days AS (
        SELECT (now() AT TIME ZONE 'UTC')::date - back AS date
        FROM generate_series(0, :days - 1) AS back
    ), counted AS (
        SELECT (created_at AT TIME ZONE 'UTC')::date AS date,
            count(*) AS total,
            count(*) FILTER (WHERE status = 'completed') AS completed,
            count(*) FILTER (WHERE status = 'failed') AS failed
        FROM tasks
        WHERE deleted_at IS NULL
            AND created_at >= (SELECT min(date) FROM days)::timestamp AT TIME ZONE 'UTC'
        GROUP BY 1
    )
    SELECT date, coalesce(total, 0) AS total, coalesce(completed, 0) AS completed,
        coalesce(failed, 0) AS failed
    FROM days LEFT JOIN counted USING (date) ORDER BY date
    """
).bindparams(bindparam("days", type_=Integer))


class AnalyticsRepository:
    """Reads alone."""

    async def task_days(self, tx: Transaction, days: int) -> list[TaskDay]:
        """Return the last days, today among them, oldest first."""
        rows = await tx.conn.execute(_DAYS, {"days": days})
        return [TaskDay.model_validate(row) for row in rows.mappings()]

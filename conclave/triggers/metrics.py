"""What thresholds watch, read where it is: the record, the engine, this host.

Processor and memory are those of the host whose worker looks just then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import timedelta

import psutil
from sqlalchemy import func, select

from conclave.db import Transaction
from conclave.ports.engine import WorkflowEngine
from conclave.triggers.desks import Desks
from schema.domain.tasks import DeadLetterStatus, TaskStatus
from schema.domain.triggers import Metric
from schema.tables.model_calls import ModelCallRow
from schema.tables.tasks import DeadLetterRow, TaskRow

_OPEN = (DeadLetterStatus.PENDING_RETRY, DeadLetterStatus.PERMANENTLY_FAILED)
_WAITING = (TaskStatus.PENDING, TaskStatus.QUEUED)
_LIVING = TaskRow.deleted_at.is_(None)
_AN_HOUR = timedelta(hours=1)
_CPU_SECONDS = 0.2


class Metrics:
    """Reads each metric once for all that watch it."""

    def __init__(self, engine: WorkflowEngine, desks: Desks) -> None:
        self._engine = engine
        self._desks = desks

    async def outside(self, wanted: Collection[Metric]) -> dict[Metric, float]:
        """Return those that need no database: read them before a transaction is open."""
        found: dict[Metric, float] = {}
        if Metric.WORKERS_ONLINE in wanted:
            found[Metric.WORKERS_ONLINE] = await self._engine.live_workers()
        if Metric.MEMORY_PERCENT in wanted:
            found[Metric.MEMORY_PERCENT] = psutil.virtual_memory().percent
        if Metric.CPU_PERCENT in wanted:
            found[Metric.CPU_PERCENT] = await asyncio.to_thread(psutil.cpu_percent, _CPU_SECONDS)
        return found

    async def recorded(self, tx: Transaction, wanted: Collection[Metric]) -> dict[Metric, float]:
        """Return those of the record. One that is not known (a budget without limit) is not in."""
        found: dict[Metric, float] = {}
        for metric in wanted:
            value = await self._recorded(tx, metric)
            if value is not None:
                found[metric] = value
        return found

    async def _recorded(self, tx: Transaction, metric: Metric) -> float | None:
        match metric:
            case Metric.QUEUE_DEPTH:
                asked = select(func.count()).where(TaskRow.status.in_(_WAITING), _LIVING)
            case Metric.FAILED_TASKS_1H:
                asked = select(func.count()).where(
                    TaskRow.status == TaskStatus.FAILED,
                    TaskRow.updated_at >= func.clock_timestamp() - _AN_HOUR,
                    _LIVING,
                )
            case Metric.DEAD_LETTER_OPEN:
                asked = select(func.count()).where(DeadLetterRow.status.in_(_OPEN))
            case Metric.COST_TODAY_USD:
                midnight = func.date_trunc("day", func.clock_timestamp(), "UTC")
                asked = select(func.coalesce(func.sum(ModelCallRow.cost_usd), 0)).where(
                    ModelCallRow.created_at >= midnight
                )
            case Metric.BUDGET_PERCENT:
                budget = self._desks.budget
                return None if budget is None else await budget.percent_used(tx)
            case _:
                return None
        return float(await tx.conn.scalar(asked) or 0)

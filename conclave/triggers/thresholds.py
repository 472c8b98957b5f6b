"""Thresholds: looked at by one schedule for each rhythm, whatever their number.

A threshold fires when it has held for as long as it says, and again only after it did not hold.
That state is in the record, changed with the firing it makes.
"""

from __future__ import annotations

from pydantic import JsonValue

from conclave.db import Database
from conclave.triggers.commands import NewFiring
from conclave.triggers.dispatch import TriggerDispatch
from conclave.triggers.metrics import Metrics
from conclave.triggers.repository import Threshold, TriggerRepository
from conclave.triggers.run_repository import RunRepository
from schema.domain.trigger_configs import ThresholdConfig
from schema.domain.triggers import Metric
from schema.payloads.triggers import CheckInput, CheckResult

_OUTSIDE = (Metric.WORKERS_ONLINE, Metric.CPU_PERCENT, Metric.MEMORY_PERCENT)


class ThresholdService:
    """Looks at thresholds."""

    def __init__(self, db: Database, metrics: Metrics, dispatch: TriggerDispatch) -> None:
        self._db = db
        self._metrics = metrics
        self._dispatch = dispatch
        self._triggers = TriggerRepository()
        self._runs = RunRepository()

    async def check(self, asked: CheckInput) -> CheckResult:
        """Look at all of one rhythm. May run twice, and at once with another: rows are locked."""
        async with self._db.transaction() as tx:
            wanted = {
                ThresholdConfig.model_validate(one.config).metric
                for one in await self._triggers.of_rhythm(tx, asked.every_seconds)
            }
        values = await self._metrics.outside(wanted)
        async with self._db.transaction() as tx:
            thresholds = await self._triggers.of_rhythm(tx, asked.every_seconds)
            configs = {one.id: ThresholdConfig.model_validate(one.config) for one in thresholds}
            recorded = {config.metric for config in configs.values()} - set(_OUTSIDE)
            values |= await self._metrics.recorded(tx, recorded)
            over, back, crossed = list[int](), list[int](), list[NewFiring]()
            for one in thresholds:
                config = configs[one.id]
                value = values.get(config.metric)
                holds = value is not None and config.operator.holds(value, config.threshold)
                if not holds:
                    if one.over_seconds is not None:
                        back.append(one.id)
                    continue
                if one.over_seconds is None:
                    over.append(one.id)
                if not one.has_crossed and (one.over_seconds or 0) >= config.for_seconds:
                    crossed.append(_firing(one, config, value or 0.0))
            await self._triggers.note_over(tx, over)
            await self._triggers.note_back(tx, back)
            await self._triggers.note_crossed(tx, [firing.trigger_id for firing in crossed])
            added = [await self._runs.insert(tx, firing) for firing in crossed]
            await self._dispatch.owe_firings(tx, [run for run in added if run is not None])
        return CheckResult(checked=len(thresholds), crossed=len(crossed))


def _firing(one: Threshold, config: ThresholdConfig, value: float) -> NewFiring:
    data: dict[str, JsonValue] = {
        "metric": config.metric.value,
        "value": value,
        "operator": config.operator.value,
        "threshold": config.threshold,
        "for_seconds": config.for_seconds,
    }
    return NewFiring(trigger_id=one.id, firing_key=f"crossing-{one.crossings + 1}", event_data=data)

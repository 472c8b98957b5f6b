"""Activities on runs of pipelines. Each may run twice, also at once: a step starts once."""

from __future__ import annotations

from temporalio import activity

from activities.failures import translated
from activities.heartbeats import heartbeats
from conclave.pipelines.record import RunRecord
from schema.payloads import names
from schema.payloads.pipelines import (
    BegunRun,
    FinishRun,
    LookAtRun,
    RunInput,
    RunNews,
    StartSteps,
)


class PipelineActivities:
    """Short as a rule, but a round may start or stop many tasks: they heartbeat every second
    (`policies.HEARTBEAT_TIMEOUT`), so that a killed worker is soon missed, and are bounded by
    `policies.PIPELINE_TIMEOUT`."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record

    @activity.defn(name=names.BEGIN_RUN_ACTIVITY)
    async def begin(self, asked: RunInput) -> BegunRun:
        """Store that a run has begun, and return its plan and how far it is."""
        async with heartbeats():
            with translated():
                return await self._record.begin(asked.run_id)

    @activity.defn(name=names.LOOK_AT_RUN_ACTIVITY)
    async def look(self, asked: LookAtRun) -> RunNews:
        """Store what became of the steps that run; one look for all of them."""
        async with heartbeats():
            with translated():
                return await self._record.look(asked)

    @activity.defn(name=names.START_STEPS_ACTIVITY)
    async def start(self, asked: StartSteps) -> RunNews:
        """Start steps and pass over others; what an earlier try has started is told again."""
        async with heartbeats():
            with translated():
                return await self._record.start(asked)

    @activity.defn(name=names.FINISH_RUN_ACTIVITY)
    async def finish(self, asked: FinishRun) -> RunNews:
        """End a run that is not over."""
        async with heartbeats():
            with translated():
                return await self._record.finish(asked)

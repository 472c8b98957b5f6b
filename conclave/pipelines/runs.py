"""Runs of pipelines: started by people and triggers, read, cancelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from conclave.auditing import AuditLog
from conclave.db import Database, Transaction
from conclave.errors import Missing
from conclave.pipelines.commands import RunFilter, StartRun
from conclave.pipelines.configs import pipeline_config
from conclave.pipelines.dispatch import RunDispatch
from conclave.pipelines.errors import (
    PipelineNotFound,
    PipelineNotRunnable,
    RunEnded,
    RunLimitReached,
    RunNotFound,
)
from conclave.pipelines.record import RunRecord
from conclave.pipelines.repository import PipelineRepository
from conclave.pipelines.run_repository import RunRepository
from schema.domain.identity import Principal
from schema.domain.pipelines import Run, RunStatus, RunTrigger, StepRun


class RunService:
    """The use cases of runs. Implements `conclave.ports.pipelines.PipelineDesk`."""

    def __init__(
        self, db: Database, audit: AuditLog, dispatch: RunDispatch, record: RunRecord
    ) -> None:
        self._db = db
        self._audit = audit
        self._dispatch = dispatch
        self._record = record
        self._runs = RunRepository()
        self._pipelines = PipelineRepository()

    async def run(
        self, pipeline_id: int, given: Mapping[str, JsonValue], principal: Principal
    ) -> tuple[Run, list[StepRun]]:
        """Start a run of the steps as they are now; its workflow is started by the outbox.

        Raises `PipelineNotFound`, `PipelineNotRunnable` and `RunLimitReached`.
        """
        wanted = StartRun(input=dict(given), started_by=principal.user_id)
        async with self._db.transaction() as tx:
            run = await self._start(tx, pipeline_id, wanted)
            return run, await self._runs.steps(tx, run.id)

    async def start(
        self,
        tx: Transaction,
        workflow_id: int,
        given: Mapping[str, JsonValue],
        *,
        origin_key: str,
        trigger_id: int | None = None,
        chain_depth: int = 0,
    ) -> int | None:
        """Start a run for a trigger, or return the one the key stands for.

        None at the pipeline's run limit. Raises `Missing` and `PipelineNotRunnable`.
        """
        wanted = StartRun(
            input=dict(given),
            trigger=RunTrigger.TRIGGER,
            trigger_id=trigger_id,
            origin_key=origin_key,
            chain_depth=chain_depth,
        )
        # Whoever asks with the same key waits here: the second one finds the first one's run.
        await self._pipelines.lock(tx, workflow_id)
        known = await self._runs.of_origin(tx, origin_key)
        if known is not None:
            return known
        try:
            return (await self._start(tx, workflow_id, wanted)).id
        except PipelineNotFound as error:
            raise Missing("workflow_id", error.message) from error
        except RunLimitReached:
            return None

    async def _start(self, tx: Transaction, pipeline_id: int, wanted: StartRun) -> Run:
        if not await self._pipelines.lock(tx, pipeline_id):
            raise PipelineNotFound(pipeline_id)
        pipeline = await self._pipelines.get(tx, pipeline_id)
        assert pipeline is not None, "its row is locked"
        if pipeline.is_template:
            raise PipelineNotRunnable("A template does not run", pipeline.status)
        steps = await self._pipelines.steps(tx, pipeline_id)
        if not steps:
            raise PipelineNotRunnable("The workflow has no steps", pipeline.status)
        config = pipeline_config(pipeline.config)
        if await self._runs.count_active(tx, pipeline_id) >= config.max_concurrent_runs:
            raise RunLimitReached(config.max_concurrent_runs)
        run = await self._runs.insert(
            tx, pipeline, steps, wanted, config.model_dump(mode="json", exclude_unset=True)
        )
        await self._audit.record(
            tx,
            "workflow_run_started",
            "workflow_run",
            run.id,
            changes={"workflow_id": pipeline_id, "trigger_id": run.trigger_id},
        )
        await self._dispatch.owe(tx, run.id)
        return run

    async def get(self, pipeline_id: int, run_id: int) -> tuple[Run, list[StepRun]]:
        """Return a run and its steps. Raises `PipelineNotFound` and `RunNotFound`."""
        async with self._db.transaction() as tx:
            run = await self._get(tx, pipeline_id, run_id)
            return run, await self._runs.steps(tx, run_id)

    async def list(self, wanted: RunFilter, limit: int, offset: int) -> tuple[Sequence[Run], int]:
        """Return a page of a pipeline's runs, newest first. Raises `PipelineNotFound`."""
        async with self._db.transaction() as tx:
            if await self._pipelines.get(tx, wanted.pipeline_id) is None:
                raise PipelineNotFound(wanted.pipeline_id)
            return await self._runs.list(tx, wanted, limit, offset)

    async def cancel(self, pipeline_id: int, run_id: int) -> tuple[Run, list[StepRun]]:
        """Cancel a run at once: nothing of it starts any more, its tasks are stopped.

        Raises `PipelineNotFound`, `RunNotFound` and `RunEnded`.
        """
        async with self._db.transaction() as tx:
            run = await self._get(tx, pipeline_id, run_id, lock=True)
            if not run.status.is_active:
                raise RunEnded(run_id, run.status)
            run = await self._cancel(tx, run)
            await self._audit.record(tx, "workflow_run_cancelled", "workflow_run", run_id)
            return run, await self._runs.steps(tx, run_id)

    async def cancel_all(self, tx: Transaction, pipeline_id: int) -> None:
        """Cancel every active run of a pipeline, whose row is locked."""
        for run_id in await self._runs.active(tx, pipeline_id):
            run = await self._runs.get(tx, run_id, lock=True)
            if run is not None and run.status.is_active:
                await self._cancel(tx, run)

    async def _cancel(self, tx: Transaction, run: Run) -> Run:
        ended = await self._record.end(tx, run, RunStatus.CANCELLED, None)
        await self._dispatch.owe(tx, run.id)
        return ended

    async def _get(
        self, tx: Transaction, pipeline_id: int, run_id: int, *, lock: bool = False
    ) -> Run:
        if await self._pipelines.get(tx, pipeline_id) is None:
            raise PipelineNotFound(pipeline_id)
        run = await self._runs.get(tx, run_id, lock=lock)
        if run is None or run.pipeline_id != pipeline_id:
            raise RunNotFound(run_id)
        return run

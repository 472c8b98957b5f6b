"""Telling a run's workflow that the record has changed.

Every call may be lost: the outbox row that was committed with the change is delivered again by
the relay. The end of a task is told the same way: the task owes its wake-up to `TARGET_KIND`.
"""

from __future__ import annotations

from conclave.db import Database, Transaction
from conclave.errands import Errands
from conclave.errors import ExecutionClosed
from conclave.failpoints import Failpoint, reach
from conclave.mailbox import Mailbox
from conclave.pipelines.errors import RunNotFound
from conclave.pipelines.run_repository import RunRepository
from conclave.ports.engine import WorkflowEngine
from conclave.wakeups import WakeUps
from schema.domain.pipelines import RunStatus
from schema.payloads.pipelines import PipelineState

TARGET_KIND = "pipeline_run"


class RunDispatch:
    """Starts and wakes the workflows of runs."""

    def __init__(
        self, db: Database, mailbox: Mailbox, errands: Errands, engine: WorkflowEngine
    ) -> None:
        self._db = db
        self._mailbox = mailbox
        self._wakes = WakeUps(mailbox, errands)
        self._engine = engine
        self._runs = RunRepository()

    async def owe(self, tx: Transaction, run_id: int) -> None:
        """Store a wake-up with the change it tells of, and deliver it once that is committed."""
        await self._wakes.owe(tx, TARGET_KIND, run_id, self.deliver)

    async def deliver(self, run_id: int) -> None:
        """Start or wake the run's workflow, and strike what is owed. Raises `Unavailable`."""
        async with self._db.transaction() as tx:
            run = await self._runs.get(tx, run_id)
            owed = await self._mailbox.owed(tx, TARGET_KIND, run_id)
        if run is None:
            raise RunNotFound(run_id)
        try:
            if run.status is RunStatus.QUEUED:
                reach(Failpoint.BEFORE_START, "pipeline run", run.id)
                await self._engine.start_pipeline(
                    PipelineState(run_id=run.id, pipeline_id=run.pipeline_id)
                )
            else:
                await self._engine.wake_pipeline(run_id)
        except ExecutionClosed:
            pass  # it is over, or was cancelled before its workflow was there
        if owed:
            async with self._db.transaction() as tx:
                await self._mailbox.delivered(tx, owed)

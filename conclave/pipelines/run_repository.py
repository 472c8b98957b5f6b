"""All SQL on runs and on steps as they were when a run started."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import Float, bindparam, cast, func, insert, select, update

from conclave.db import Transaction
from conclave.pipelines.commands import RunFilter, StartRun
from schema.domain.pipelines import (
    ACTIVE_RUNS,
    OPEN_STEPS,
    Pipeline,
    Run,
    RunStatus,
    Step,
    StepRun,
    StepStatus,
)
from schema.tables.pipelines import PipelineRunRow, PipelineStepRunRow

_RUN = (
    PipelineRunRow.id,
    PipelineRunRow.pipeline_id,
    PipelineRunRow.name,
    PipelineRunRow.status,
    PipelineRunRow.trigger,
    PipelineRunRow.trigger_id,
    PipelineRunRow.chain_depth,
    PipelineRunRow.started_by,
    PipelineRunRow.input,
    PipelineRunRow.config,
    PipelineRunRow.error,
    PipelineRunRow.created_at,
    PipelineRunRow.started_at,
    PipelineRunRow.finished_at,
)
_LEFT = cast(
    func.extract("epoch", PipelineStepRunRow.due_at - func.clock_timestamp()), Float
).label("left_seconds")
_STEP = (
    PipelineStepRunRow.run_id,
    PipelineStepRunRow.step_id,
    PipelineStepRunRow.name,
    PipelineStepRunRow.step_type,
    PipelineStepRunRow.position,
    PipelineStepRunRow.config,
    PipelineStepRunRow.agent_id,
    PipelineStepRunRow.depends_on,
    PipelineStepRunRow.status,
    PipelineStepRunRow.attempt,
    PipelineStepRunRow.task_ids,
    PipelineStepRunRow.output,
    PipelineStepRunRow.error,
    PipelineStepRunRow.started_at,
    PipelineStepRunRow.finished_at,
    _LEFT,
)
_ACTIVE = PipelineRunRow.status.in_([status.value for status in ACTIVE_RUNS])
_OPEN = PipelineStepRunRow.status.in_([status.value for status in OPEN_STEPS])


class RunRepository:
    """Whoever changes a run or its steps has the run's row locked."""

    async def insert(
        self,
        tx: Transaction,
        pipeline: Pipeline,
        steps: Sequence[Step],
        wanted: StartRun,
        config: Mapping[str, JsonValue],
    ) -> Run:
        """Store a run with a copy of the steps."""
        added = await tx.conn.execute(
            insert(PipelineRunRow)
            .values(
                **wanted.model_dump(mode="json"),
                pipeline_id=pipeline.id,
                name=pipeline.name,
                config=dict(config),
            )
            .returning(*_RUN)
        )
        run = Run.model_validate(added.mappings().one())
        copies = [
            {
                "run_id": run.id,
                "step_id": step.id,
                **step.model_dump(
                    include={
                        "name", "step_type", "position", "config", "agent_id", "depends_on",
                    }
                ),
            }
            for step in steps
        ]  # fmt: skip
        await tx.conn.execute(insert(PipelineStepRunRow), copies)
        return run

    async def of_origin(self, tx: Transaction, key: str) -> int | None:
        """Return the id of the run an origin's key stands for."""
        row = await tx.conn.execute(
            select(PipelineRunRow.id).where(PipelineRunRow.origin_key == key)
        )
        return row.scalar_one_or_none()

    async def count_active(self, tx: Transaction, pipeline_id: int) -> int:
        """Count a pipeline's active runs; its row is locked where that decides something."""
        row = await tx.conn.execute(
            select(func.count())
            .select_from(PipelineRunRow)
            .where(PipelineRunRow.pipeline_id == pipeline_id, _ACTIVE)
        )
        return row.scalar_one()

    async def active(self, tx: Transaction, pipeline_id: int) -> list[int]:
        """Return the ids of a pipeline's active runs."""
        rows = await tx.conn.scalars(
            select(PipelineRunRow.id)
            .where(PipelineRunRow.pipeline_id == pipeline_id, _ACTIVE)
            .order_by(PipelineRunRow.id)
        )
        return list(rows)

    async def get(self, tx: Transaction, run_id: int, *, lock: bool = False) -> Run | None:
        """Return one run, locked against other changes where asked."""
        statement = select(*_RUN).where(PipelineRunRow.id == run_id)
        if lock:
            statement = statement.with_for_update()
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else Run.model_validate(row)

    async def list(
        self, tx: Transaction, wanted: RunFilter, limit: int, offset: int
    ) -> tuple[Sequence[Run], int]:
        """Return a page of a pipeline's runs, newest first, and how many there are in all."""
        chosen = select(*_RUN).where(PipelineRunRow.pipeline_id == wanted.pipeline_id)
        if wanted.status is not None:
            chosen = chosen.where(PipelineRunRow.status == wanted.status.value)
        total = await tx.conn.execute(select(func.count()).select_from(chosen.subquery()))
        rows = await tx.conn.execute(
            chosen.order_by(PipelineRunRow.id.desc()).limit(limit).offset(offset)
        )
        return [Run.model_validate(row) for row in rows.mappings()], total.scalar_one()

    async def begin(self, tx: Transaction, run_id: int) -> Run:
        """Store that a run's workflow has begun."""
        row = await tx.conn.execute(
            update(PipelineRunRow)
            .where(PipelineRunRow.id == run_id)
            .values(status=RunStatus.RUNNING.value, started_at=func.clock_timestamp())
            .returning(*_RUN)
        )
        return Run.model_validate(row.mappings().one())

    async def left_seconds(self, tx: Transaction, run: Run) -> float:
        """Return how long a run may still take, by the record's clock."""
        since = func.coalesce(PipelineRunRow.started_at, func.clock_timestamp())
        row = await tx.conn.execute(
            select(cast(func.extract("epoch", func.clock_timestamp() - since), Float)).where(
                PipelineRunRow.id == run.id
            )
        )
        return max(0.0, run.config.timeout_seconds - float(row.scalar_one()))

    async def seconds_since_start(self, tx: Transaction, step: StepRun) -> int:
        """Return how long a step's attempt has run, in whole seconds."""
        row = await tx.conn.execute(
            select(
                cast(
                    func.extract("epoch", func.clock_timestamp() - PipelineStepRunRow.started_at),
                    Float,
                )
            ).where(
                PipelineStepRunRow.run_id == step.run_id,
                PipelineStepRunRow.step_id == step.step_id,
            )
        )
        return round(row.scalar_one())

    async def end(
        self, tx: Transaction, run_id: int, status: RunStatus, error: str | None = None
    ) -> Run:
        """Store the end of a run, and cancel the steps that are not over."""
        await tx.conn.execute(
            update(PipelineStepRunRow)
            .where(PipelineStepRunRow.run_id == run_id, _OPEN)
            .values(
                status=StepStatus.CANCELLED.value,
                due_at=None,
                finished_at=func.clock_timestamp(),
            )
        )
        row = await tx.conn.execute(
            update(PipelineRunRow)
            .where(PipelineRunRow.id == run_id)
            .values(status=status.value, error=error, finished_at=func.clock_timestamp())
            .returning(*_RUN)
        )
        return Run.model_validate(row.mappings().one())

    async def steps(
        self, tx: Transaction, run_id: int, only: Collection[int] | None = None
    ) -> list[StepRun]:
        """Return a run's steps by (position, id), or some of them."""
        statement = select(*_STEP).where(PipelineStepRunRow.run_id == run_id)
        if only is not None:
            statement = statement.where(PipelineStepRunRow.step_id.in_(only))
        rows = await tx.conn.execute(
            statement.order_by(PipelineStepRunRow.position, PipelineStepRunRow.step_id)
        )
        return [StepRun.model_validate(row) for row in rows.mappings()]

    async def skip(self, tx: Transaction, run_id: int, step_ids: Collection[int]) -> None:
        """Pass over steps that have not started."""
        await tx.conn.execute(
            update(PipelineStepRunRow)
            .where(
                PipelineStepRunRow.run_id == run_id,
                PipelineStepRunRow.step_id.in_(step_ids),
                PipelineStepRunRow.status == StepStatus.PENDING.value,
            )
            .values(
                status=StepStatus.SKIPPED.value, due_at=None, finished_at=func.clock_timestamp()
            )
        )

    async def set_step(
        self,
        tx: Transaction,
        step: StepRun,
        status: StepStatus,
        *,
        due_in: float | None = None,
        due_at: datetime | None = None,
        starts: bool = False,
        **values: object,
    ) -> StepRun:
        """Store how a step stands now; `due_in` is in seconds, `starts` begins an attempt.

        The time of its end is stored with every status that is one, and with a failed attempt
        that is tried again.
        """
        changes: dict[str, object] = {"status": status.value, "due_at": due_at, **values}
        if due_in is not None:
            seconds = bindparam("due_in_", due_in, type_=Float)
            changes["due_at"] = func.clock_timestamp() + func.make_interval(
                0, 0, 0, 0, 0, 0, seconds
            )
        if starts:
            changes["started_at"] = func.clock_timestamp()
        changes["finished_at"] = None if status is StepStatus.RUNNING else func.clock_timestamp()
        row = await tx.conn.execute(
            update(PipelineStepRunRow)
            .where(
                PipelineStepRunRow.run_id == step.run_id,
                PipelineStepRunRow.step_id == step.step_id,
            )
            .values(**changes)
            .returning(*_STEP)
        )
        return StepRun.model_validate(row.mappings().one())

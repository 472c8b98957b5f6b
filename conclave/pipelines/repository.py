"""All SQL on pipelines and their steps as they are defined."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import ColumnElement, and_, case, func, insert, select, true, update

from conclave.db import Transaction
from conclave.pipelines.commands import AddStep, PipelineFilter
from schema.domain.pipelines import Pipeline, PipelineStatus, RunStatus, Step, StepStatus
from schema.tables.agents import AgentRow
from schema.tables.identity import UserRow
from schema.tables.pipelines import (
    PipelineRow,
    PipelineRunRow,
    PipelineStepRow,
    PipelineStepRunRow,
)

_LIVING = PipelineRow.deleted_at.is_(None)
_LAST = (
    select(PipelineRunRow.id, PipelineRunRow.status)
    .where(PipelineRunRow.pipeline_id == PipelineRow.id)
    .order_by(PipelineRunRow.id.desc())
    .limit(1)
    .lateral("last_run")
)
_STEP_COUNT = (
    select(func.count())
    .select_from(PipelineStepRow)
    .where(PipelineStepRow.pipeline_id == PipelineRow.id)
    .scalar_subquery()
)
_STATUS = case(
    (_STEP_COUNT == 0, PipelineStatus.DRAFT.value),
    (_LAST.c.status.is_(None), PipelineStatus.ACTIVE.value),
    (_LAST.c.status == RunStatus.CANCELLED.value, PipelineStatus.ACTIVE.value),
    (_LAST.c.status == RunStatus.QUEUED.value, PipelineStatus.RUNNING.value),
    else_=_LAST.c.status,
)
_SELECT = (
    select(
        PipelineRow.id,
        PipelineRow.name,
        PipelineRow.description,
        _STATUS.label("status"),
        PipelineRow.is_template,
        PipelineRow.config,
        _STEP_COUNT.label("step_count"),
        _LAST.c.id.label("last_run_id"),
        PipelineRow.created_by,
        PipelineRow.created_at,
        PipelineRow.updated_at,
    )
    .select_from(PipelineRow)
    .outerjoin(_LAST, true())
    .where(_LIVING)
)
_STEPS = (
    select(
        PipelineStepRow.id,
        PipelineStepRow.pipeline_id,
        PipelineStepRow.name,
        PipelineStepRow.step_type,
        PipelineStepRow.position,
        PipelineStepRow.config,
        PipelineStepRow.agent_id,
        PipelineStepRow.depends_on,
        func.coalesce(PipelineStepRunRow.status, StepStatus.PENDING.value).label("status"),
    )
    .join(PipelineRow, PipelineRow.id == PipelineStepRow.pipeline_id)
    .outerjoin(_LAST, true())
    .outerjoin(
        PipelineStepRunRow,
        and_(
            PipelineStepRunRow.run_id == _LAST.c.id,
            PipelineStepRunRow.step_id == PipelineStepRow.id,
        ),
    )
    .order_by(PipelineStepRow.position, PipelineStepRow.id)
)


class PipelineRepository:
    """Reads see living pipelines only."""

    async def insert(self, tx: Transaction, values: Mapping[str, object]) -> int:
        """Store a pipeline and return its id."""
        added = await tx.conn.execute(
            insert(PipelineRow).values(**values).returning(PipelineRow.id)
        )
        return added.scalar_one()

    async def lock(self, tx: Transaction, pipeline_id: int) -> bool:
        """Lock a pipeline against other changes and starts; False where there is none."""
        row = await tx.conn.execute(
            select(PipelineRow.id).where(PipelineRow.id == pipeline_id, _LIVING).with_for_update()
        )
        return row.scalar_one_or_none() is not None

    async def get(self, tx: Transaction, pipeline_id: int) -> Pipeline | None:
        """Return one pipeline."""
        row = await tx.conn.execute(_SELECT.where(PipelineRow.id == pipeline_id))
        found = row.mappings().one_or_none()
        return None if found is None else Pipeline.model_validate(found)

    async def list(
        self, tx: Transaction, wanted: PipelineFilter, limit: int, offset: int
    ) -> tuple[Sequence[Pipeline], int]:
        """Return a page, newest first, and how many there are in all."""
        chosen = _SELECT.where(*_conditions(wanted))
        total = await tx.conn.execute(select(func.count()).select_from(chosen.subquery()))
        rows = await tx.conn.execute(
            chosen.order_by(PipelineRow.id.desc()).limit(limit).offset(offset)
        )
        return [Pipeline.model_validate(row) for row in rows.mappings()], total.scalar_one()

    async def touch(self, tx: Transaction, pipeline_id: int) -> None:
        """Note that a pipeline has changed now."""
        await tx.conn.execute(
            update(PipelineRow)
            .where(PipelineRow.id == pipeline_id)
            .values(updated_at=func.clock_timestamp())
        )

    async def delete(self, tx: Transaction, pipeline_id: int) -> None:
        """Mark one pipeline as deleted."""
        await tx.conn.execute(
            update(PipelineRow)
            .where(PipelineRow.id == pipeline_id, _LIVING)
            .values(deleted_at=func.clock_timestamp(), updated_at=func.clock_timestamp())
        )

    async def add_step(self, tx: Transaction, pipeline_id: int, wanted: AddStep) -> Step:
        """Store a step; without a position it stands behind the last."""
        position = wanted.position
        if position is None:
            last = await tx.conn.scalar(
                select(func.max(PipelineStepRow.position)).where(
                    PipelineStepRow.pipeline_id == pipeline_id
                )
            )
            position = 1 if last is None else last + 1
        values = wanted.model_dump(mode="json") | {
            "pipeline_id": pipeline_id,
            "position": position,
        }
        row = await tx.conn.execute(
            insert(PipelineStepRow)
            .values(**values)
            .returning(
                PipelineStepRow.id,
                PipelineStepRow.pipeline_id,
                PipelineStepRow.name,
                PipelineStepRow.step_type,
                PipelineStepRow.position,
                PipelineStepRow.config,
                PipelineStepRow.agent_id,
                PipelineStepRow.depends_on,
            )
        )
        return Step.model_validate({**row.mappings().one(), "status": StepStatus.PENDING})

    async def steps(self, tx: Transaction, pipeline_id: int) -> list[Step]:
        """Return a pipeline's steps by (position, id), with how each stands in the latest run."""
        rows = await tx.conn.execute(_STEPS.where(PipelineStepRow.pipeline_id == pipeline_id))
        return [Step.model_validate(row) for row in rows.mappings()]

    async def living_agents(self, tx: Transaction, ids: Collection[int]) -> set[int]:
        """Return those of the ids that are agents."""
        rows = await tx.conn.scalars(
            select(AgentRow.id).where(AgentRow.id.in_(ids), AgentRow.deleted_at.is_(None))
        )
        return set(rows)

    async def has_user(self, tx: Transaction, user_id: int) -> bool:
        """Whether there is such a user."""
        row = await tx.conn.execute(
            select(UserRow.id).where(UserRow.id == user_id, UserRow.deleted_at.is_(None))
        )
        return row.scalar_one_or_none() is not None


def _conditions(wanted: PipelineFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.is_template is not None:
        conditions.append(PipelineRow.is_template.is_(wanted.is_template))
    if wanted.status is not None:
        conditions.append(_STATUS.in_([wanted.status.value]))
    return conditions

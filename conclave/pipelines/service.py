"""Pipelines as they are defined: making, listing, adding steps, deleting."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from conclave.auditing import AuditLog, changed
from conclave.db import Database, Transaction
from conclave.errors import Invalid, Missing
from conclave.pipelines.commands import AddStep, CreatePipeline, PipelineFilter
from conclave.pipelines.configs import (
    NotifyConfig,
    ParallelConfig,
    StepConfig,
    pipeline_config,
    step_config,
)
from conclave.pipelines.errors import PipelineNotFound, StepsCircular, TooManySteps
from conclave.pipelines.graph import find_circle
from conclave.pipelines.rendering import described, described_step
from conclave.pipelines.repository import PipelineRepository
from conclave.pipelines.runs import RunService
from schema.domain.identity import Principal
from schema.domain.pipelines import Pipeline, Step

MOST_STEPS = 500


class PipelineService:
    """The use cases of pipelines; those of their runs are `RunService`'s."""

    def __init__(self, db: Database, audit: AuditLog, runs: RunService) -> None:
        self._db = db
        self._audit = audit
        self._runs = runs
        self._pipelines = PipelineRepository()

    async def create(self, command: CreatePipeline, principal: Principal) -> Pipeline:
        """Store a new pipeline, without steps. Raises `Invalid` for a config that does not fit."""
        pipeline_config(command.config)
        values: dict[str, object] = {**command.model_dump(), "created_by": principal.user_id}
        async with self._db.transaction() as tx:
            pipeline = await self._get(tx, await self._pipelines.insert(tx, values))
            await self._record(tx, "workflow_created", pipeline.id, {}, described(pipeline))
        return pipeline

    async def get(self, pipeline_id: int) -> tuple[Pipeline, list[Step]]:
        """Return one pipeline and its steps, in their order. Raises `PipelineNotFound`."""
        async with self._db.transaction() as tx:
            pipeline = await self._get(tx, pipeline_id)
            return pipeline, await self._pipelines.steps(tx, pipeline_id)

    async def list(
        self, wanted: PipelineFilter, limit: int, offset: int
    ) -> tuple[Sequence[Pipeline], int]:
        """Return a page, newest first, and how many there are in all."""
        async with self._db.transaction() as tx:
            return await self._pipelines.list(tx, wanted, limit, offset)

    async def add_step(self, pipeline_id: int, command: AddStep) -> Step:
        """Store a step; runs that are under way go on without it.

        Raises `PipelineNotFound`, `Missing` for an agent or a user that does not exist, `Invalid`
        for what does not fit, `StepsCircular` and `TooManySteps`.
        """
        config = step_config(command.step_type, command.config)
        async with self._db.transaction() as tx:
            if not await self._pipelines.lock(tx, pipeline_id):
                raise PipelineNotFound(pipeline_id)
            await self._check_references(tx, command, config)
            before = await self._pipelines.steps(tx, pipeline_id)
            if len(before) >= MOST_STEPS:
                raise TooManySteps(MOST_STEPS)
            step = await self._pipelines.add_step(tx, pipeline_id, command)
            _check_order([*before, step], step)
            await self._pipelines.touch(tx, pipeline_id)
            await self._record(tx, "workflow_step_added", pipeline_id, {}, described_step(step))
        return step

    async def exists(self, tx: Transaction, workflow_id: int) -> bool:
        """Whether there is such a pipeline."""
        return await self._pipelines.get(tx, workflow_id) is not None

    async def delete(self, pipeline_id: int) -> None:
        """Delete a pipeline at once, cancelling its active runs. Raises `PipelineNotFound`."""
        async with self._db.transaction() as tx:
            if not await self._pipelines.lock(tx, pipeline_id):
                raise PipelineNotFound(pipeline_id)
            pipeline = await self._get(tx, pipeline_id)
            await self._pipelines.delete(tx, pipeline_id)
            await self._runs.cancel_all(tx, pipeline_id)
            await self._record(tx, "workflow_deleted", pipeline_id, described(pipeline), {})

    async def _check_references(
        self, tx: Transaction, command: AddStep, config: StepConfig
    ) -> None:
        """Raise `Missing` for the first agent or user that is not there."""
        agents = {} if command.agent_id is None else {"agent_id": command.agent_id}
        if isinstance(config, ParallelConfig):
            agents |= {
                f"config.tasks.{number}.agent_id": task.agent_id
                for number, task in enumerate(config.tasks)
                if task.agent_id is not None
            }
        living = await self._pipelines.living_agents(tx, agents.values())
        for field, agent_id in agents.items():
            if agent_id not in living:
                raise Missing(field, f"Agent {agent_id} not found")
        user_id = config.user_id if isinstance(config, NotifyConfig) else None
        if user_id is not None and not await self._pipelines.has_user(tx, user_id):
            raise Missing("config.user_id", f"User {user_id} not found")

    async def _get(self, tx: Transaction, pipeline_id: int) -> Pipeline:
        pipeline = await self._pipelines.get(tx, pipeline_id)
        if pipeline is None:
            raise PipelineNotFound(pipeline_id)
        return pipeline

    async def _record(
        self,
        tx: Transaction,
        action: str,
        pipeline_id: int,
        before: dict[str, JsonValue],
        after: dict[str, JsonValue],
    ) -> None:
        await self._audit.record(
            tx, action, "workflow", pipeline_id, changes=changed(before, after)
        )


def _check_order(steps: Sequence[Step], new: Step) -> None:
    """Raise `Invalid` for a step that is not of this pipeline, `StepsCircular` for a circle."""
    known = {step.id for step in steps}
    for place, step_id in enumerate(new.depends_on):
        if step_id not in known:
            raise Invalid(f"depends_on.{place}", f"Step {step_id} is not a step of this workflow")
    circle = find_circle({step.id: step.depends_on for step in steps})
    if circle is not None:
        raise StepsCircular(circle)

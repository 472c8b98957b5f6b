"""Workflows, their steps and runs as this dialect writes them. The core calls them pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, Field, JsonValue, StringConstraints

from api.platform.schemas.fields import Id, Name, Timestamp
from conclave.pipelines.commands import AddStep, CreatePipeline, PipelineFilter, RunFilter
from schema.domain.pipelines import (
    Pipeline,
    PipelineStatus,
    Run,
    RunStatus,
    RunTrigger,
    Step,
    StepRun,
    StepStatus,
    StepType,
)

_Text = Annotated[str, StringConstraints(max_length=100_000)]
_Order = Annotated[int, Field(ge=0, le=1_000_000)]


class WorkflowIn(BaseModel):
    """A new workflow. `config`: execution, max_parallel, on_failure, max_concurrent_runs,
    timeout_seconds."""

    name: Name
    description: _Text | None = None
    is_template: bool = False
    config: dict[str, JsonValue] = {}

    def to_command(self) -> CreatePipeline:
        """Return it in the core's words."""
        return CreatePipeline.model_validate(self.model_dump())


class StepIn(BaseModel):
    """A new step; without `order` it stands behind the last."""

    name: Name
    step_type: StepType = StepType.TASK
    order: _Order | None = None
    config: dict[str, JsonValue] = {}
    agent_id: Id | None = None
    depends_on: Annotated[list[Id], Field(max_length=100)] = []

    def to_command(self) -> AddStep:
        """Return it in the core's words."""
        return AddStep(
            name=self.name,
            step_type=self.step_type,
            position=self.order,
            config=self.config,
            agent_id=self.agent_id,
            depends_on=list(dict.fromkeys(self.depends_on)),
        )


class RunIn(BaseModel):
    """What a run is given; conditions and templates see it as `input`."""

    input: dict[str, JsonValue] = {}


class WorkflowQuery(BaseModel):
    """Which workflows are listed."""

    is_template: bool | None = None
    status: PipelineStatus | None = None

    def to_filter(self) -> PipelineFilter:
        """Return it in the core's words."""
        return PipelineFilter(is_template=self.is_template, status=self.status)


class RunQuery(BaseModel):
    """Which runs are listed."""

    status: RunStatus | None = None

    def to_filter(self, workflow_id: int) -> RunFilter:
        """Return it in the core's words."""
        return RunFilter(pipeline_id=workflow_id, status=self.status)


class StepOut(BaseModel):
    """A step; its status is that of the latest run."""

    id: int
    workflow_id: int
    name: str
    step_type: StepType
    order: int
    config: dict[str, JsonValue]
    agent_id: int | None
    depends_on: list[int]
    status: StepStatus

    @classmethod
    def from_domain(cls, step: Step) -> StepOut:
        """Return a step in this dialect's shape."""
        return cls(
            id=step.id,
            workflow_id=step.pipeline_id,
            name=step.name,
            step_type=step.step_type,
            order=step.position,
            config=step.config,
            agent_id=step.agent_id,
            depends_on=step.depends_on,
            status=step.status,
        )


class WorkflowOut(BaseModel):
    """A workflow in a list."""

    id: int
    name: str
    description: str | None
    status: PipelineStatus
    is_template: bool
    config: dict[str, JsonValue]
    step_count: int
    last_run_id: int | None
    created_by: int | None
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def from_domain(cls, pipeline: Pipeline) -> WorkflowOut:
        """Return a workflow in this dialect's shape."""
        return cls.model_validate(pipeline.model_dump())


class WorkflowDetail(WorkflowOut):
    """A workflow with its steps, by (order, id)."""

    steps: list[StepOut]

    @classmethod
    def with_steps(cls, pipeline: Pipeline, steps: Sequence[Step]) -> WorkflowDetail:
        """Return a workflow and its steps in this dialect's shape."""
        return cls.model_validate(
            {**pipeline.model_dump(), "steps": [StepOut.from_domain(step) for step in steps]}
        )


class StepRunOut(BaseModel):
    """A step within a run, as it was when the run started."""

    step_id: int
    name: str
    step_type: StepType
    status: StepStatus
    attempt: int
    output: dict[str, JsonValue] | None
    error: str | None
    started_at: Timestamp | None
    finished_at: Timestamp | None
    duration_ms: int | None

    @classmethod
    def from_domain(cls, step: StepRun) -> StepRunOut:
        """Return a step of a run in this dialect's shape."""
        return cls.model_validate({**step.model_dump(), "duration_ms": step.duration_ms})


class RunOut(BaseModel):
    """A run in a list."""

    id: int
    workflow_id: int
    status: RunStatus
    trigger: RunTrigger
    trigger_id: int | None
    started_by: int | None
    input: dict[str, JsonValue]
    error: str | None
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None
    duration_ms: int | None

    @classmethod
    def from_domain(cls, run: Run) -> RunOut:
        """Return a run in this dialect's shape."""
        return cls.model_validate(_told(run))


class RunDetail(RunOut):
    """A run with its steps, by (order, id)."""

    steps: list[StepRunOut]

    @classmethod
    def with_steps(cls, run: Run, steps: Sequence[StepRun]) -> RunDetail:
        """Return a run and its steps in this dialect's shape."""
        return cls.model_validate(
            {**_told(run), "steps": [StepRunOut.from_domain(step) for step in steps]}
        )


def _told(run: Run) -> dict[str, object]:
    return {
        **run.model_dump(),
        "workflow_id": run.pipeline_id,
        "duration_ms": run.duration_ms,
    }

"""What crosses the boundary of a pipeline's run: ids, states and seconds. Names, inputs, outputs,
conditions and reasons stay in the record."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field

from schema.domain.pipelines import RunStatus, StepStatus


class PlannedStep(BaseModel):
    """A step, and which of the steps before it in the plan it depends on."""

    id: int
    after: list[int] = Field(default_factory=list[int])
    """Places in the plan, each lower than its own."""
    timeout_seconds: int | None = None


class Plan(BaseModel):
    """The steps of a run, each behind what it depends on."""

    steps: list[PlannedStep]
    in_order: bool
    """One after the other, as they stand."""
    max_parallel: int
    goes_on: bool
    """Whether what does not depend on a failed step goes on."""


class StepMark(BaseModel):
    """How a step stands, as the workflow knows it."""

    status: StepStatus = StepStatus.PENDING
    attempt: int = 0
    due: datetime | None = None
    """When its wait is over, or its next attempt may start."""
    deadline: datetime | None = None
    """When the present attempt has taken too long."""


class PipelineState(BaseModel):
    """Everything a run carries over: into its first workflow task and across continue-as-new."""

    run_id: int
    pipeline_id: int
    plan: Plan | None = None
    """None before the record was looked at."""
    marks: list[StepMark] = Field(default_factory=list[StepMark])
    """By place in the plan."""
    deadline: datetime | None = None
    """When the run has taken too long."""
    must_look: bool = False
    """A wake-up that is not answered yet."""


class PipelineResult(BaseModel):
    """How a run ended."""

    run_id: int
    status: RunStatus


class RunInput(BaseModel):
    """Which run."""

    run_id: int


class StepNews(BaseModel):
    """How a step stands in the record."""

    step_id: int
    status: StepStatus
    attempt: int
    wait_seconds: float | None = None
    """Running: until its wait is over. Pending: until its next attempt may start."""


class RunNews(BaseModel):
    """How a run stands, and the steps that were asked about."""

    status: RunStatus
    steps: list[StepNews] = Field(default_factory=list[StepNews])


class BegunRun(BaseModel):
    """What a run is, when its workflow begins."""

    status: RunStatus
    plan: Plan | None = None
    """None where it is over."""
    steps: list[StepNews] = Field(default_factory=list[StepNews])
    left_seconds: float = 0
    """Until it has taken too long."""


class WatchedStep(BaseModel):
    """A step that the workflow knows as running."""

    step_id: int
    attempt: int
    is_over: bool = False
    """Its wait is over."""
    is_late: bool = False
    """This attempt has taken too long."""


class LookAtRun(BaseModel):
    """Bring what runs up to date: tasks that have ended, waits and attempts whose time is over."""

    run_id: int
    steps: list[WatchedStep]


class StepAttempt(BaseModel):
    """An attempt that is to start; from 1."""

    step_id: int
    attempt: int


class StartSteps(BaseModel):
    """What is to start, and what is passed over, in one round."""

    run_id: int
    start: list[StepAttempt] = Field(default_factory=list[StepAttempt])
    skip: list[int] = Field(default_factory=list[int])


class FinishReason(StrEnum):
    """Why a run ends; its words are the record's."""

    STEPS = "steps"
    """Nothing is left to do."""
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    """In Temporal itself."""
    BROKEN = "broken"
    """An activity failed for good."""


class FinishRun(BaseModel):
    """End a run; what is left of it is cancelled."""

    run_id: int
    status: RunStatus
    reason: FinishReason = FinishReason.STEPS

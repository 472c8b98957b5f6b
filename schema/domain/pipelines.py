"""Pipelines: steps in an order, run one after the other or side by side. The API: workflows."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, JsonValue

from schema.domain.base import Shape


class StepType(StrEnum):
    """What a step does."""

    TASK = "task"
    CONDITION = "condition"
    PARALLEL = "parallel"
    WAIT = "wait"
    NOTIFY = "notify"


class StepStatus(StrEnum):
    """How a step of a run stands. A step that waits for its next attempt is pending again."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class RunStatus(StrEnum):
    """How a run stands; the first two are active."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_active(self) -> bool:
        """Whether something may still happen in it."""
        return self in ACTIVE_RUNS


ACTIVE_RUNS: Final = frozenset({RunStatus.QUEUED, RunStatus.RUNNING})
OPEN_STEPS: Final = frozenset({StepStatus.PENDING, StepStatus.RUNNING})


class PipelineStatus(StrEnum):
    """Derived: draft without steps, active before the first run, else as the latest run."""

    DRAFT = "draft"
    ACTIVE = "active"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class RunTrigger(StrEnum):
    """What started a run."""

    MANUAL = "manual"
    TRIGGER = "trigger"


class Execution(StrEnum):
    """One step after the other, or each as soon as what it depends on is done."""

    SEQUENTIAL = "sequential"
    DAG = "dag"


class OnFailure(StrEnum):
    """What a failed step does to the others."""

    STOP = "stop"
    CONTINUE = "continue"


DAY_SECONDS: Final = 86_400


class PipelineConfig(Shape):
    """How a pipeline's runs go. What a client keeps besides in its config is not looked at."""

    execution: Execution | None = None
    """None: sequential where no step depends on another."""
    max_parallel: Annotated[int, Field(strict=True, ge=1, le=20)] = 5
    on_failure: OnFailure = OnFailure.STOP
    max_concurrent_runs: Annotated[int, Field(strict=True, ge=1, le=10)] = 1
    timeout_seconds: Annotated[int, Field(strict=True, ge=1, le=366 * DAY_SECONDS)] = DAY_SECONDS


class Pipeline(Shape):
    """A pipeline as stored, with what follows from its latest run."""

    id: int
    name: str
    description: str | None
    status: PipelineStatus
    is_template: bool
    config: dict[str, JsonValue]
    step_count: int
    last_run_id: int | None
    created_by: int | None
    created_at: datetime
    updated_at: datetime


class Step(Shape):
    """A step as it is defined; `status` is that of the latest run."""

    id: int
    pipeline_id: int
    name: str
    step_type: StepType
    position: int
    config: dict[str, JsonValue]
    agent_id: int | None
    depends_on: list[int]
    status: StepStatus


class Run(Shape):
    """A run as stored. It goes by the name and the config its pipeline had when it started."""

    id: int
    pipeline_id: int
    name: str
    status: RunStatus
    trigger: RunTrigger
    trigger_id: int | None
    chain_depth: int
    """How many firings of triggers led here."""
    started_by: int | None
    input: dict[str, JsonValue]
    config: PipelineConfig
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def duration_ms(self) -> int | None:
        """How long it took, once it is over."""
        return milliseconds(self.started_at, self.finished_at)


class StepRun(Shape):
    """A step within a run: what it was when the run started, and how it stands."""

    run_id: int
    step_id: int
    name: str
    step_type: StepType
    position: int
    config: dict[str, JsonValue]
    agent_id: int | None
    depends_on: list[int]
    status: StepStatus
    attempt: int
    """0 before the first."""
    task_ids: list[int]
    """The tasks its present attempt waits for, in the order of the config."""
    output: dict[str, JsonValue] | None
    error: str | None
    started_at: datetime | None
    finished_at: datetime | None
    left_seconds: float | None = None
    """Until its wait is over, or its next attempt may start, by the record's clock."""

    @property
    def duration_ms(self) -> int | None:
        """How long its last attempt took, once it is over."""
        return milliseconds(self.started_at, self.finished_at)


def milliseconds(since: datetime | None, until: datetime | None) -> int | None:
    """Return what lies between two moments; None where one is not there yet."""
    if since is None or until is None:
        return None
    return round((until - since).total_seconds() * 1000)

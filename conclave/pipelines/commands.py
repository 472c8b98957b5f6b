"""What can be asked of pipelines, in the core's own shapes."""

from __future__ import annotations

from pydantic import Field, JsonValue

from schema.domain.base import Shape
from schema.domain.pipelines import PipelineStatus, RunStatus, RunTrigger, StepType


class CreatePipeline(Shape):
    """A new pipeline; it has no steps yet."""

    name: str
    description: str | None = None
    is_template: bool = False
    config: dict[str, JsonValue] = Field(default_factory=dict)


class AddStep(Shape):
    """A new step. Without a position it stands behind the last."""

    name: str
    step_type: StepType = StepType.TASK
    position: int | None = None
    config: dict[str, JsonValue] = Field(default_factory=dict)
    agent_id: int | None = None
    depends_on: list[int] = Field(default_factory=list[int])


class PipelineFilter(Shape):
    """Which pipelines are listed."""

    is_template: bool | None = None
    status: PipelineStatus | None = None


class RunFilter(Shape):
    """Which runs of a pipeline are listed."""

    pipeline_id: int
    status: RunStatus | None = None


class StartRun(Shape):
    """A run about to be stored; `origin_key` makes it the same run however often it is asked."""

    input: dict[str, JsonValue] = Field(default_factory=dict)
    trigger: RunTrigger = RunTrigger.MANUAL
    trigger_id: int | None = None
    origin_key: str | None = None
    chain_depth: int = 0
    started_by: int | None = None

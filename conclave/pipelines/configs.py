"""The configs of steps: one shape for each type, read when a step is added and when it runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, JsonValue, ValidationError

from conclave.errors import Invalid
from conclave.pipelines.conditions import Condition
from schema.domain.base import Shape
from schema.domain.notifications import Severity
from schema.domain.pipelines import DAY_SECONDS, PipelineConfig, StepType
from schema.domain.tasks import TaskPriority

MOST_WAIT_SECONDS = 30 * DAY_SECONDS
LONGEST_TEXT = 100_000
LONGEST_TITLE = 500

_Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
_Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
_Title = Annotated[str, Field(min_length=1, max_length=LONGEST_TITLE)]


def _utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("beyond the years 1 to 9999 in UTC") from None


_Moment = Annotated[datetime, AfterValidator(_utc)]


class StepConfig(Shape):
    """What every step may have."""

    condition: Condition | None = None
    """False: the step is skipped."""
    timeout_seconds: Annotated[int, Field(strict=True, ge=1, le=MOST_WAIT_SECONDS)] | None = None
    """Of one attempt."""
    max_retries: Annotated[int, Field(strict=True, ge=0, le=5)] = 0
    retry_delay_seconds: Annotated[int, Field(strict=True, ge=0, le=60)] = 5

    def delay_after(self, attempt: int) -> int:
        """Return the seconds before the next attempt: linear, a minute at most."""
        return min(60, self.retry_delay_seconds * attempt)


class TaskWords(Shape):
    """What a task is to be; its texts may hold templates."""

    title: _Title | None = None
    description: _Text | None = None
    instructions: _Text | None = None
    priority: TaskPriority = TaskPriority.MEDIUM
    required_tools: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=128)]], Field(max_length=100)
    ] = Field(default_factory=list)


class TaskConfig(StepConfig, TaskWords):
    """One task. `max_retries` is the step's: where it is set, the task itself is tried once."""

    @property
    def own_retries(self) -> int | None:
        """How often the task itself is tried again; None: as any task."""
        return 0 if "max_retries" in self.model_fields_set else None


class ParallelTask(TaskWords):
    """One of several tasks; `max_retries` is the task's own."""

    agent_id: _Id | None = None
    max_retries: Annotated[int, Field(strict=True, ge=0, le=10)] | None = None


class ParallelConfig(StepConfig):
    """Tasks that run together; none of them: a place where steps meet."""

    tasks: Annotated[list[ParallelTask], Field(max_length=20)] = Field(
        default_factory=list[ParallelTask]
    )


class ConditionConfig(StepConfig):
    """Its condition is what it finds out, and does not skip it."""

    condition: Condition  # pyright: ignore[reportGeneralTypeIssues,reportIncompatibleVariableOverride]  # required here: frozen, so never set to None


class WaitConfig(StepConfig):
    """Waits for a time, or until one."""

    wait_seconds: Annotated[int, Field(strict=True, ge=0, le=MOST_WAIT_SECONDS)] | None = None
    until: _Moment | None = None


class Channel(StrEnum):
    """Where people are told."""

    IN_APP = "in_app"
    EMAIL = "email"
    SLACK = "slack"
    TELEGRAM = "telegram"
    WEBHOOK = "webhook"


class NotifyConfig(StepConfig):
    """Tells people; without `user_id` every administrator and operator."""

    channel: Channel = Channel.IN_APP
    channel_id: _Id | None = None
    subject: Annotated[str, Field(max_length=LONGEST_TITLE)] | None = None
    body: _Text | None = None
    severity: Severity = Severity.INFO
    user_id: _Id | None = None


_BY_TYPE: Mapping[StepType, type[StepConfig]] = {
    StepType.TASK: TaskConfig,
    StepType.CONDITION: ConditionConfig,
    StepType.PARALLEL: ParallelConfig,
    StepType.WAIT: WaitConfig,
    StepType.NOTIFY: NotifyConfig,
}
_Shape = TypeVar("_Shape", bound=Shape)


def step_config(step_type: StepType, config: Mapping[str, JsonValue]) -> StepConfig:
    """Read a step's config. Raises `Invalid`, which names the field."""
    read = _read(_BY_TYPE[step_type], config)
    if isinstance(read, WaitConfig) and (read.wait_seconds is None) is (read.until is None):
        raise Invalid("config.wait_seconds", "A wait has either wait_seconds or until")
    return read


def pipeline_config(config: Mapping[str, JsonValue]) -> PipelineConfig:
    """Read a pipeline's config. Raises `Invalid`, which names the field."""
    return _read(PipelineConfig, config)


def _read(shape: type[_Shape], config: Mapping[str, JsonValue]) -> _Shape:
    try:
        return shape.model_validate(config)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(["config", *(str(part) for part in first["loc"])])
        raise Invalid(field, first["msg"], type=first["type"]) from None

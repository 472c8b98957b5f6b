"""Tasks as this dialect writes them."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BaseModel, Field, JsonValue, StringConstraints, field_validator

from api.platform.schemas.fields import Id, Timestamp, refuse_null
from conclave.tasks.commands import TaskFilter, TaskStats, UpdateTask
from schema.domain.identity import Principal
from schema.domain.tasks import NewTask, Task, TaskPriority, TaskStatus

Title: TypeAlias = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)
]
LongText: TypeAlias = Annotated[str, StringConstraints(max_length=100_000)]
ToolName: TypeAlias = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128)
]
ToolNames: TypeAlias = Annotated[list[ToolName], Field(max_length=100)]
_MOST_ITERATIONS = 50
_LONGEST_TOOL_SECONDS = 3600


def check_metadata(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Raise ValueError where a key that means something here has a value that does not fit."""
    limits = {"max_iterations": _MOST_ITERATIONS, "tool_timeout": _LONGEST_TOOL_SECONDS}
    for name, most in limits.items():
        number = value.get(name)
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
            raise ValueError(f"{name} is a whole number from 1 to {most}")
    return value


class TaskIn(BaseModel):
    """A piece of work."""

    title: Title
    description: LongText | None = None
    instructions: LongText | None = None
    priority: TaskPriority = TaskPriority.MEDIUM
    agent_id: Id | None = None
    deadline: Timestamp | None = None
    required_tools: ToolNames = []
    max_retries: Annotated[int, Field(ge=0, le=10)] = 3
    metadata: dict[str, JsonValue] = {}
    project_id: Id | None = None
    """A project whose repository it works in, on a branch of its own."""
    budget_usd: Annotated[float, Field(ge=0)] | None = None
    """What its model calls may cost in all."""

    _metadata = field_validator("metadata")(check_metadata)

    def to_command(self, principal: Principal) -> NewTask:
        """Return it in the core's words."""
        return NewTask.model_validate(
            {**self.model_dump(), "assigned_by": principal.user_id},
        )


class TaskPatch(BaseModel):
    """Changes to a task: what is left out stays."""

    title: Title = ""
    description: LongText | None = None
    instructions: LongText | None = None
    priority: TaskPriority = TaskPriority.MEDIUM
    agent_id: Id | None = None
    deadline: Timestamp | None = None
    required_tools: ToolNames = []
    max_retries: Annotated[int, Field(ge=0, le=10)] = 3
    status: TaskStatus = TaskStatus.PENDING
    result: LongText | None = None
    error: LongText | None = None
    progress_percent: Annotated[int, Field(ge=0, le=100)] = 0
    output_files: Annotated[list[Id], Field(max_length=1000)] = []

    _not_null = field_validator(
        "title",
        "priority",
        "required_tools",
        "max_retries",
        "status",
        "progress_percent",
        "output_files",
        mode="before",
    )(refuse_null)

    def to_command(self) -> UpdateTask:
        """Return it in the core's words."""
        return UpdateTask.model_validate(self.model_dump(exclude_unset=True))


class CancelIn(BaseModel):
    """Why it is cancelled."""

    reason: LongText | None = None


class TaskQuery(BaseModel):
    """Which tasks are listed."""

    status_filter: Annotated[str | None, Field(description="One status, or several by commas")] = (
        None
    )
    priority: TaskPriority | None = None
    agent_id: Id | None = None

    @field_validator("status_filter")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        for part in _parts(value):
            if part not in set(TaskStatus):
                raise ValueError(f"{part!r} is no status: {', '.join(TaskStatus)}")
        return value

    def to_filter(self) -> TaskFilter:
        """Return it in the core's words."""
        parts = _parts(self.status_filter)
        statuses = tuple(TaskStatus(part) for part in parts) or None
        return TaskFilter(statuses=statuses, priority=self.priority, agent_id=self.agent_id)


def _parts(value: str | None) -> list[str]:
    return [part.strip() for part in (value or "").split(",") if part.strip()]


class FileRef(BaseModel):
    """A file that a task has put out."""

    id: int
    filename: str
    size_bytes: int
    content_type: str


class TaskOut(BaseModel):
    """A task and where it stands."""

    id: int
    title: str
    description: str | None
    instructions: str | None
    status: TaskStatus
    priority: TaskPriority
    agent_id: int | None
    agent_name: str | None
    assigned_by: int | None
    workflow_id: int | None
    workflow_run_id: int | None
    parent_task_id: int | None
    definition_id: str | None
    project_id: int | None
    conversation_id: int
    attempt: int
    result: str | None
    error: str | None
    error_type: str | None
    pending_reason: str | None
    output_files: list[FileRef]
    deadline: Timestamp | None
    overdue: bool
    started_at: Timestamp | None
    completed_at: Timestamp | None
    next_attempt_at: Timestamp | None
    retry_count: int
    max_retries: int
    required_tools: list[str]
    progress_percent: int
    estimated_duration_seconds: int | None
    actual_duration_seconds: int | None
    budget_usd: float | None
    cost_tokens: int
    cost_usd: float
    metadata: dict[str, JsonValue]
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def from_domain(cls, task: Task) -> TaskOut:
        """Return a task in this dialect's shape."""
        took = None
        if task.started_at is not None and task.completed_at is not None:
            took = round((task.completed_at - task.started_at).total_seconds())
        return cls.model_validate(
            {
                **task.model_dump(),
                "cost_usd": round(float(task.cost_usd), 6),
                "budget_usd": None if task.budget_usd is None else float(task.budget_usd),
                "estimated_duration_seconds": None,
                "actual_duration_seconds": took,
            }
        )


class TaskStatsOut(BaseModel):
    """How many tasks there are; every key is present."""

    total: int
    by_status: dict[TaskStatus, int]
    by_priority: dict[TaskPriority, int]

    @classmethod
    def from_domain(cls, stats: TaskStats) -> TaskStatsOut:
        """Return the figures in this dialect's shape."""
        return cls.model_validate(stats.model_dump())

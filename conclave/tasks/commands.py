"""What can be asked of tasks, in the core's own shapes."""

from __future__ import annotations

from datetime import datetime

from pydantic import JsonValue

from schema.domain.base import Shape
from schema.domain.tasks import DeadLetterStatus, TaskPriority, TaskStatus


class TaskFilter(Shape):
    """Which tasks are listed; None means any."""

    statuses: tuple[TaskStatus, ...] | None = None
    priority: TaskPriority | None = None
    agent_id: int | None = None


class UpdateTask(Shape):
    """Changes to a task: only fields that were set count."""

    title: str = ""
    description: str | None = None
    instructions: str | None = None
    priority: TaskPriority = TaskPriority.MEDIUM
    agent_id: int | None = None
    deadline: datetime | None = None
    required_tools: list[str] = []
    max_retries: int = 3
    status: TaskStatus = TaskStatus.PENDING
    result: str | None = None
    error: str | None = None
    progress_percent: int = 0
    output_files: list[int] = []


class TaskStats(Shape):
    """How many tasks there are."""

    total: int
    by_status: dict[TaskStatus, int]
    by_priority: dict[TaskPriority, int]


class DeadLetterFilter(Shape):
    """Which dead letters are listed."""

    statuses: tuple[DeadLetterStatus, ...]
    error_type: str | None = None


class ManualDeadLetter(Shape):
    """A task that somebody gives up."""

    task_id: int
    reason: str
    error_type: str
    metadata: dict[str, JsonValue] = {}


class DeadLetterStats(Shape):
    """How many dead letters there are; `by_*` count the open ones."""

    pending: int
    permanently_failed: int
    retried: int
    discarded: int
    by_priority: dict[TaskPriority, int]
    by_error_type: dict[str, int]
    oldest_entry: datetime | None

    @property
    def total(self) -> int:
        """The open ones."""
        return self.pending + self.permanently_failed

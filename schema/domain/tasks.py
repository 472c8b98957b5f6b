"""Tasks: work that is given to an agent and has an end."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from pydantic import Field, JsonValue

from schema.domain.base import Shape
from schema.domain.files import FileRef


class TaskStatus(StrEnum):
    """platform.md, section 3. Completed and cancelled are final; failed can be reopened."""

    PENDING = "pending"
    """Without an agent, or waiting for its next attempt or for budget (`pending_reason`)."""
    QUEUED = "queued"
    """Agents would do, but all are full."""
    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    REVIEW = "review"
    """Waits for an approval."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})
FINAL: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.CANCELLED})
RUNNING: Final = frozenset({TaskStatus.ASSIGNED, TaskStatus.IN_PROGRESS, TaskStatus.REVIEW})
"""What counts as an agent's load."""


class TaskPriority(StrEnum):
    """Most urgent first."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 for the most urgent: what the dispatcher and Temporal order by."""
        return list(TaskPriority).index(self)


class TaskErrorType(StrEnum):
    """Why an attempt failed."""

    ERROR = "error"
    TIMEOUT = "timeout"
    WORKER_LOST = "worker_lost"
    PROVIDER = "provider"
    TOOL_MISMATCH = "tool_mismatch"
    VALIDATION = "validation"
    APPROVAL_REJECTED = "approval_rejected"
    AUTH = "auth"
    BUDGET = "budget_exhausted"
    MANUAL = "manual"

    @property
    def is_retryable(self) -> bool:
        """Whether another attempt can help."""
        return self in {
            TaskErrorType.ERROR,
            TaskErrorType.TIMEOUT,
            TaskErrorType.WORKER_LOST,
            TaskErrorType.PROVIDER,
        }


class TaskOrigin(Shape):
    """What made a task, where no person did, and who hears of its end."""

    key: str
    """Unique: the same key twice is the same task (`run-5/step-3/1`)."""
    workflow_id: int | None = None
    workflow_run_id: int | None = None
    waiter_kind: str | None = None
    """An outbox target kind that is woken when the task has ended, with `waiter_id`."""
    waiter_id: int | None = None
    chain_depth: int = 0
    """How many firings of triggers led here."""


class NewTask(Shape):
    """A task about to be stored."""

    title: str
    description: str | None = None
    instructions: str | None = None
    priority: TaskPriority = TaskPriority.MEDIUM
    agent_id: int | None = None
    deadline: datetime | None = None
    required_tools: list[str] = Field(default_factory=list)
    required_capabilities: list[str] = Field(default_factory=list)
    """Which agent may get it, where none is named."""
    max_retries: int = 3
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    assigned_by: int | None = None
    """The user that asked for it."""
    project_id: int | None = None
    parent_task_id: int | None = None
    definition_id: str | None = None
    budget_usd: Decimal | None = None
    """What its model calls may cost in all; None: no limit of its own."""
    origin: TaskOrigin | None = None


class TaskHead(Shape):
    """A task as far as every event of it tells."""

    id: int
    title: str
    status: TaskStatus
    priority: TaskPriority
    agent_id: int | None
    workflow_id: int | None
    chain_depth: int
    progress_percent: int


class Task(TaskHead):
    """A task as stored. Times are UTC, costs US dollars."""

    description: str | None
    instructions: str | None
    agent_name: str | None
    assigned_by: int | None
    workflow_run_id: int | None
    parent_task_id: int | None
    definition_id: str | None
    project_id: int | None
    conversation_id: int
    """Its transcript, which every attempt continues."""
    attempt: int
    """From 1; the execution of its conversation."""
    result: str | None
    error: str | None
    error_type: str | None
    pending_reason: str | None
    output_files: list[FileRef]
    """Those that are gone are left out."""
    deadline: datetime | None
    overdue: bool
    started_at: datetime | None
    completed_at: datetime | None
    next_attempt_at: datetime | None
    retry_count: int
    max_retries: int
    required_tools: list[str]
    required_capabilities: list[str]
    budget_usd: Decimal | None
    cost_tokens: int
    cost_usd: Decimal
    metadata: dict[str, JsonValue]
    created_at: datetime
    updated_at: datetime

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.status in ENDED


class DeadLetterStatus(StrEnum):
    """The first two are open."""

    PENDING_RETRY = "pending_retry"
    PERMANENTLY_FAILED = "permanently_failed"
    RETRIED = "retried"
    DISCARDED = "discarded"


class FailedAttempt(Shape):
    """One line of a dead letter's history."""

    attempt: int
    started_at: datetime | None
    failed_at: datetime
    error: str


class DeadLetter(Shape):
    """A task that failed for good, as it was then."""

    id: int
    task_id: int
    task_title: str
    agent_id: int | None
    agent_name: str | None
    priority: TaskPriority
    error_type: str
    error_message: str
    stack_trace: str | None
    status: DeadLetterStatus
    source: str
    """auto, or manual."""
    retry_count: int
    max_retries: int
    metadata: dict[str, JsonValue]
    execution_history: list[FailedAttempt]
    failed_at: datetime
    retried_at: datetime | None
    created_at: datetime
    updated_at: datetime

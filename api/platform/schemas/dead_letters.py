"""Dead letters as this dialect writes them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AliasChoices, BaseModel, Field, JsonValue, StringConstraints

from api.platform.schemas.fields import Id, Timestamp
from conclave.tasks.commands import DeadLetterFilter, DeadLetterStats, ManualDeadLetter
from schema.domain.tasks import DeadLetter, DeadLetterStatus, TaskPriority

_OPEN = (DeadLetterStatus.PENDING_RETRY, DeadLetterStatus.PERMANENTLY_FAILED)
_Reason = Annotated[str, StringConstraints(strip_whitespace=True, max_length=100_000)]
_ErrorType = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]


class DeadLetterQuery(BaseModel):
    """Which dead letters are listed."""

    status: DeadLetterStatus | None = None
    error_type: str | None = None

    def to_filter(self) -> DeadLetterFilter:
        """Return it in the core's words: the open ones unless a status is named."""
        statuses = _OPEN if self.status is None else (self.status,)
        return DeadLetterFilter(statuses=statuses, error_type=self.error_type)


class DeadLetterIn(BaseModel):
    """A task to give up by hand."""

    task_id: Id
    reason: Annotated[
        _Reason,
        Field(validation_alias=AliasChoices("reason", "error", "error_message")),
    ] = "Given up by hand"
    error_type: _ErrorType = "manual"
    metadata: dict[str, JsonValue] = {}

    def to_command(self) -> ManualDeadLetter:
        """Return it in the core's words."""
        return ManualDeadLetter.model_validate(self.model_dump())


class RetryAllIn(BaseModel):
    """Which dead letters are retried."""

    error_type: str | None = None


class FailedAttemptOut(BaseModel):
    """One attempt that failed."""

    attempt: int
    started_at: Timestamp | None
    failed_at: Timestamp
    error: str


class DeadLetterOut(BaseModel):
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
    retry_count: int
    max_retries: int
    metadata: dict[str, JsonValue]
    execution_history: list[FailedAttemptOut]
    failed_at: Timestamp
    retried_at: Timestamp | None
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def from_domain(cls, letter: DeadLetter) -> DeadLetterOut:
        """Return a dead letter in this dialect's shape."""
        return cls.model_validate(letter.model_dump())


class RetriedOut(BaseModel):
    """A dead letter whose task begins another attempt."""

    id: int
    task_id: int
    status: str = "retried"
    task_status: str = "pending"
    message: str


class RetriedAllOut(BaseModel):
    """How many were retried."""

    retried_count: int
    skipped_count: int
    message: str


class DeadLetterStatsOut(BaseModel):
    """How many dead letters there are; `total` and `by_*` count the open ones."""

    total: int
    pending: int
    permanently_failed: int
    retried: int
    discarded: int
    retryable: int
    by_priority: dict[TaskPriority, int]
    by_error_type: dict[str, int]
    oldest_entry: Timestamp | None

    @classmethod
    def from_domain(cls, stats: DeadLetterStats) -> DeadLetterStatsOut:
        """Return the figures in this dialect's shape."""
        counts = {"total": stats.total, "retryable": stats.pending}
        return cls.model_validate({**stats.model_dump(), **counts})

"""What crosses the boundary for tool calls: ids, verdicts and times, never arguments."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from schema.domain.conversations import ConversationStatus
from schema.domain.tools import Effect, ExecutionStatus, ToolVerdict


class ToolRef(BaseModel):
    """A call of the ledger, judged: what the workflow is to do about it."""

    execution_id: int
    verdict: ToolVerdict
    effect: Effect
    label: str
    """The tool's name, for Temporal's UI."""
    timeout: int
    """Seconds the call may take."""
    is_quick: bool = False
    """Runs on the queue of the workflow: handed over with the task that asks for it."""
    approval_id: int | None = None
    expires_at: datetime | None = None


class ExecuteInput(BaseModel):
    """Which line of the ledger to run."""

    execution_id: int
    timeout: int
    is_quick: bool = False


class ExecuteResult(BaseModel):
    """How it ended; what it answered stands in the record."""

    status: ExecutionStatus


class FinishInput(BaseModel):
    """Close a turn that ends without a last word: cancelled, all denied, too many steps."""

    conversation_id: int
    execution: int
    turn: int
    stop_reason: str
    inbox_id: int | None = None


class FinishResult(BaseModel):
    """The conversation after it."""

    status: ConversationStatus
    turn_count: int

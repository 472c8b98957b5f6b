"""What crosses the boundary of the task workflow: ids, counters and codes, never text."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field

from schema.domain.inbox import InboxItem


class TaskInput(BaseModel):
    """One attempt at a task; carried over by continue-as-new."""

    task_id: int
    run: int
    """Which run this is: `task-7`, then `task-7-2`."""
    conversation_id: int
    execution: int
    """The attempt: what it commits is fenced by it."""
    agent_id: int
    label: str
    """How Temporal's UI names the agent: `dev_alex asks claude-sonnet`."""
    rank: int
    """Its priority, 0 for critical."""
    turn: int = 0
    """Turns taken so far."""
    turn_timeout: int = 120
    """Seconds one model call may take."""
    expires_at: datetime
    """When the attempt has taken too long."""
    max_steps: int = 25
    tool_timeout: int | None = None
    """Seconds a tool may take; None: as the tool says."""
    inbox: list[InboxItem] = Field(default_factory=list[InboxItem])
    version: int = 1
    """1: a timer of its own for `expires_at`, and search attributes of its end; 2: neither."""


class TaskRunResult(BaseModel):
    """How a run ended: the word of the record's status, as far as the workflow knows it."""

    outcome: str
    cost_usd: float = 0.0


class AmendInput(BaseModel):
    """The wake-up that carries an inbox row's id: the task was changed while it runs."""

    item: InboxItem


class AmendResult(BaseModel):
    """The run has taken it up."""

    accepted: bool = True


class LookAtTaskInput(BaseModel):
    """Which attempt asks."""

    task_id: int
    execution: int


class LookAtTaskResult(BaseModel):
    """What the record says."""

    is_current: bool
    """False: another attempt has it, or it is over."""
    inbox: list[InboxItem] = Field(default_factory=list[InboxItem])


class Shortage(BaseModel):
    """Which budget did not cover a call, in US dollars; None where it is not about money."""

    scope: str
    limit: float | None = None
    spent: float | None = None
    needed: float | None = None


class FailTaskInput(BaseModel):
    """An attempt that cannot go on; `reason` is a public sentence."""

    task_id: int
    execution: int
    error_type: str
    reason: str
    shortage: Shortage | None = None


class AfterFailure(StrEnum):
    """What follows a failed attempt."""

    OVER = "over"
    """Nothing: it failed for good, or is not this attempt's any more."""
    WAIT = "wait"
    """Another attempt, from `at` on or when the record says so."""


class FailTaskResult(BaseModel):
    """What the record decided."""

    then: AfterFailure
    at: datetime | None = None


class RequeueTaskInput(BaseModel):
    """Give the task back to the dispatcher: its next attempt may begin."""

    task_id: int
    execution: int


class CloseTaskInput(BaseModel):
    """The run was cancelled; unless the record knows why, somebody did it in Temporal."""

    task_id: int
    execution: int


class TaskSettled(BaseModel):
    """The record has taken it over."""

    done: bool = True

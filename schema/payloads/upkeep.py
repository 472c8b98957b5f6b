"""What crosses the boundary of the upkeep workflow: names of chores and counts."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, Field


class ChoreName(StrEnum):
    """What has to be done again and again; each is a worker's `conclave.ports.engine.Chore`."""

    SEAL_AUDIT_LOG = "seal_audit_log"
    PURGE_SESSIONS = "purge_sessions"
    ANNOUNCE_EXPIRING_SECRETS = "announce_expiring_secrets"
    TELL_OVERDUE_TASKS = "tell_overdue_tasks"
    REMOVE_SCRATCH_WORKSPACES = "remove_scratch_workspaces"
    REMOVE_TASK_WORKTREES = "remove_task_worktrees"
    REMOVE_STRAY_FILES = "remove_stray_files"
    SETTLE_LEFT_CALLS = "settle_left_calls"
    LOOK_AFTER_BUDGETS = "look_after_budgets"


class UpkeepInput(BaseModel):
    """Which chores, in order.

    Texts and no `ChoreName`s: a worker that does not know one must fail that chore, not be stuck
    on the whole input.
    """

    chores: list[str]


class UpkeepResult(BaseModel):
    """How many items each chore did; chores that failed are not in it."""

    done: dict[str, int] = Field(default_factory=dict[str, int])


class ChoreInput(BaseModel):
    """One chore."""

    chore: str


class ChoreResult(BaseModel):
    """What a chore did in one activity."""

    done: int
    is_more_left: bool
    """Whether it stopped for the time it took, not because nothing was left."""

"""What crosses the boundary of the approval workflow."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from schema.domain.approvals import ApprovalStatus


class ApprovalInput(BaseModel):
    """Which approval, and when it expires."""

    approval_id: int
    expires_at: datetime
    action: str
    """What is asked, cut short and without arguments: people see it in Temporal's UI."""


class ApprovalResult(BaseModel):
    """How it stands, or how it ended."""

    approval_id: int
    status: ApprovalStatus
    escalates_at: datetime | None = None
    """When to look again, so that a second group is asked; None where none is, or it was."""


class DecideInput(BaseModel):
    """A decision that came as a signal: it carries no identity but Temporal's own."""

    approval_id: int
    approve: bool
    reason: str | None = None


class DecisionSignal(BaseModel):
    """What a person may type with the signal; nothing is needed."""

    reason: str | None = None


class LookAtApproval(BaseModel):
    """Read, and expire or escalate where it is time."""

    approval_id: int
    cancel: bool = False
    """What asked for it has ended."""

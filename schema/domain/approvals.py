"""Approvals: what waits for a human's yes or no."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import JsonValue

from schema.domain.base import Shape


class ApprovalStatus(StrEnum):
    """All but pending are final."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class RiskLevel(StrEnum):
    """Critical ones need an administrator."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Approval(Shape):
    """One request, as stored. For a tool call `details` holds tool_name and tool_args."""

    id: int
    type: str
    action: str
    description: str | None
    risk_level: RiskLevel
    status: ApprovalStatus
    task_id: int | None
    agent_id: int | None
    agent_name: str | None
    conversation_id: int | None
    tool_execution_id: int | None
    owner: str | None
    """Whose private chat it is of; None where everybody may see it."""
    details: dict[str, JsonValue]
    requested_by: int | None
    requested_by_type: str
    requested_at: datetime
    expires_at: datetime
    decided_by: int | None
    decided_by_key: str | None
    """The principal that decided: `user:3`, `gateway`, `temporal`."""
    decided_at: datetime | None
    decision_note: str | None
    rejection_reason: str | None
    arguments: dict[str, JsonValue] | None
    """Edited arguments: they replace the tool's and are what runs."""
    created_at: datetime
    updated_at: datetime


class ApprovalRequest(Shape):
    """What is asked, by whom, and until when."""

    type: str
    action: str
    description: str | None = None
    risk_level: RiskLevel = RiskLevel.MEDIUM
    task_id: int | None = None
    agent_id: int | None = None
    conversation_id: int | None = None
    tool_execution_id: int | None = None
    owner: str | None = None
    details: dict[str, JsonValue] = {}
    requested_by: int | None = None
    requested_by_type: str = "agent"
    expires_in_seconds: int | None = None
    """None: as the security settings say."""

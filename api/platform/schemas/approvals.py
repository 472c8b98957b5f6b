"""Approvals as this dialect writes them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AliasChoices, BaseModel, Field, JsonValue, StringConstraints

from api.platform.schemas.fields import Id, Timestamp
from conclave.approvals.commands import ApprovalFilter, Decide
from schema.domain.approvals import (
    MOST_APPROVALS,
    Approval,
    ApprovalRequest,
    ApprovalStatus,
    ApproverRole,
    RiskLevel,
)
from schema.domain.identity import Principal, PrincipalKind

_Text = Annotated[str, StringConstraints(max_length=100_000)]
_Ids = Annotated[list[Id], Field(min_length=1, max_length=100)]
_Group: TypeAlias = ApproverRole | _Ids
_Seconds = Annotated[int, Field(ge=60, le=604_800)]
StatusFilter: TypeAlias = Literal["pending", "approved", "rejected", "expired", "cancelled", "all"]


class ApprovalIn(BaseModel):
    """Something to be approved."""

    action: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=500),
        Field(validation_alias=AliasChoices("action", "title")),
    ]
    type: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)] = (
        "custom"
    )
    description: _Text | None = None
    task_id: Id | None = None
    agent_id: Id | None = None
    details: dict[str, JsonValue] = {}
    risk_level: RiskLevel = RiskLevel.MEDIUM
    expires_in_seconds: _Seconds | None = None
    approvers: Annotated[
        _Group,
        Field(description="Who may decide: operators (administrators too), admins, or user ids"),
    ] = ApproverRole.OPERATORS
    required_approvals: Annotated[int, Field(ge=1, le=MOST_APPROVALS)] = 1
    four_eyes: bool = False
    escalate_after_seconds: _Seconds | None = None
    escalate_to: _Group | None = None

    def to_command(self, principal: Principal) -> ApprovalRequest:
        """Return it in the core's words; whoever asks is noted."""
        is_agent = principal.kind is PrincipalKind.WORKER_NODE
        return ApprovalRequest.model_validate(
            {
                **self.model_dump(),
                "requested_by": principal.user_id,
                "requested_by_type": "agent" if is_agent else "user",
            }
        )


class ApprovalQuery(BaseModel):
    """Which approvals are listed."""

    status: StatusFilter = "pending"
    risk_level: RiskLevel | None = None
    task_id: Id | None = None
    agent_id: Id | None = None

    def to_filter(self) -> ApprovalFilter:
        """Return it in the core's words."""
        status = None if self.status == "all" else ApprovalStatus(self.status)
        return ApprovalFilter(
            status=status,
            risk_level=self.risk_level,
            task_id=self.task_id,
            agent_id=self.agent_id,
        )


class ApproveIn(BaseModel):
    """A yes; edited arguments replace the tool's and are what runs."""

    note: _Text | None = None
    arguments: dict[str, JsonValue] | None = None

    def to_command(self) -> Decide:
        """Return it in the core's words."""
        return Decide(approve=True, note=self.note, arguments=self.arguments)


class RejectIn(BaseModel):
    """A no."""

    reason: _Text | None = None

    def to_command(self) -> Decide:
        """Return it in the core's words."""
        return Decide(approve=False, reason=self.reason)


class VoteOut(BaseModel):
    """What one person said."""

    user_id: int
    approve: bool
    note: str | None
    at: Timestamp


class EscalationOut(BaseModel):
    """A second group, and from when on it may decide as well."""

    to: ApproverRole | list[int]
    at: Timestamp


class ApprovalOut(BaseModel):
    """An approval, pending or decided."""

    id: int
    type: str
    action: str
    description: str | None
    risk_level: RiskLevel
    status: ApprovalStatus
    task_id: int | None
    agent_id: int | None
    agent_name: str | None
    details: dict[str, JsonValue]
    requested_by: int | None
    requested_by_type: str
    requested_at: Timestamp
    expires_at: Timestamp
    decided_by: int | None
    decided_at: Timestamp | None
    decision_note: str | None
    rejection_reason: str | None
    arguments: dict[str, JsonValue] | None
    """Edited ones: what runs, or what those who have voted approve of."""
    approvers: ApproverRole | list[int]
    required_approvals: int
    approvals_count: int
    votes: list[VoteOut]
    four_eyes: bool
    escalation: EscalationOut | None
    escalated_at: Timestamp | None
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def from_domain(cls, approval: Approval) -> ApprovalOut:
        """Return an approval in this dialect's shape."""
        return cls.model_validate({**approval.model_dump(), "escalation": _escalation(approval)})


def _escalation(approval: Approval) -> dict[str, object] | None:
    return None if approval.escalation is None else approval.escalation.model_dump()

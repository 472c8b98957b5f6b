"""Approvals as this dialect writes them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AliasChoices, BaseModel, Field, JsonValue, StringConstraints

from api.platform.schemas.fields import Id, Timestamp
from conclave.approvals.commands import ApprovalFilter, Decide
from schema.domain.approvals import Approval, ApprovalRequest, ApprovalStatus, RiskLevel
from schema.domain.identity import Principal, PrincipalKind

_Text = Annotated[str, StringConstraints(max_length=100_000)]
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
    expires_in_seconds: Annotated[int, Field(ge=60, le=604_800)] | None = None

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
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def from_domain(cls, approval: Approval) -> ApprovalOut:
        """Return an approval in this dialect's shape."""
        return cls.model_validate(approval.model_dump())

"""Approvals: what waits for a human's yes or no."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    StrictInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from schema.domain.base import Shape

MOST_APPROVALS: Final = 10
"""That one approval may need."""
TOOL_CALL: Final = "tool_call"
BUDGET_INCREASE: Final = "budget_increase"


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


class ApproverRole(StrEnum):
    """Who decides, by role; administrators are operators too."""

    OPERATORS = "operators"
    ADMINS = "admins"


def _in_order(user_ids: list[int]) -> list[int]:
    return sorted(set(user_ids))


_UserId = Annotated[StrictInt, Field(ge=1, le=2**63 - 1)]
UserIds: TypeAlias = Annotated[
    list[_UserId], Field(min_length=1, max_length=100), AfterValidator(_in_order)
]


def _one_sentence(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    """Refuse what is neither in the words of the whole, not of one of its parts."""
    try:
        return handler(value)
    except ValidationError:
        raise ValueError("should be operators, admins, or a list of users' ids") from None


Approvers: TypeAlias = Annotated[ApproverRole | UserIds, WrapValidator(_one_sentence)]
"""A group of people: a role, or the users by their ids."""


class Vote(Shape):
    """What one person said."""

    user_id: int
    approve: bool
    note: str | None
    at: datetime


class Escalation(Shape):
    """Whom a second group is made of, and from when on it may decide as well."""

    to: Approvers
    at: datetime


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
    """Edited arguments: they replace the tool's and are what runs. While it is pending: what
    those who have voted approve of."""
    approvers: Approvers
    required_approvals: int
    approvals_count: int
    """How many of them there are; a yes that names nobody counts where one is enough."""
    votes: list[Vote]
    """Of people, in their order; those that an edit made void are not among them."""
    four_eyes: bool
    """Whoever asked may not decide, whatever the settings say."""
    escalate_to: Approvers | None
    escalates_at: datetime | None
    escalated_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def is_pending(self) -> bool:
        """Whether it can still be decided."""
        return self.status is ApprovalStatus.PENDING

    @property
    def recorded_arguments(self) -> JsonValue:
        """What runs where nobody edits anything; None where there is nothing to edit."""
        if self.type == BUDGET_INCREASE:
            return {"to_usd": self.details.get("to_usd")}
        return self.details.get("tool_args")

    @property
    def escalation(self) -> Escalation | None:
        """The second group, None where there is none."""
        if self.escalate_to is None or self.escalates_at is None:
            return None
        return Escalation(to=self.escalate_to, at=self.escalates_at)

    @property
    def groups(self) -> list[Approvers]:
        """Who decides: with an escalation the second group as well."""
        second = self.escalate_to if self.escalated_at is not None else None
        return [self.approvers] if second is None else [self.approvers, second]

    @property
    def named(self) -> set[int]:
        """The users who are asked by name."""
        return {one for group in self.groups if isinstance(group, list) for one in group}


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
    approvers: Approvers = ApproverRole.OPERATORS
    required_approvals: int = Field(default=1, ge=1, le=MOST_APPROVALS)
    """Critical ones need as many as the security settings say, at least."""
    four_eyes: bool = False
    escalate_after_seconds: int | None = None
    """None: as the security settings say."""
    escalate_to: Approvers | None = None
    """None: as the security settings say."""


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number")  # pydantic takes no TypeError
    return value


class BudgetIncrease(Shape):
    """What an approval of the type `budget_increase` asks for, US dollars in all."""

    task_id: Annotated[int, BeforeValidator(_no_truth)] = Field(ge=1, le=2**63 - 1)
    to_usd: Decimal = Field(gt=0, lt=1_000_000_000, decimal_places=9, allow_inf_nan=False)

    @classmethod
    def of(cls, approval: Approval) -> BudgetIncrease:
        """Return what was approved: edited, where somebody edited it."""
        return cls.model_validate({**approval.details, **(approval.arguments or {})})

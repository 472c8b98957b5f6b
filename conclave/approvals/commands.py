"""What can be asked of approvals."""

from __future__ import annotations

from pydantic import JsonValue

from schema.domain.approvals import ApprovalStatus, RiskLevel
from schema.domain.base import Shape


class ApprovalFilter(Shape):
    """Which approvals are listed; None: any."""

    status: ApprovalStatus | None = ApprovalStatus.PENDING
    risk_level: RiskLevel | None = None
    task_id: int | None = None
    agent_id: int | None = None
    conversation_id: int | None = None
    owner: str | None = None
    """Whose private ones are seen besides the public; None: everybody's."""
    user_id: int | None = None
    """Who also sees those that are this user's, by name, to decide."""


class Decide(Shape):
    """A yes or no. `arguments` replace the tool's; `always` allows the tool for its chat."""

    approve: bool
    note: str | None = None
    reason: str | None = None
    arguments: dict[str, JsonValue] | None = None
    always: bool = False

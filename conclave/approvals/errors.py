"""What can go wrong with approvals."""

from __future__ import annotations

from conclave.errors import Conflict, Forbidden, NotFound
from schema.domain.approvals import Approval


class ApprovalNotFound(NotFound):
    """No such approval, or one of somebody else's private chat."""

    code = "approval_not_found"

    def __init__(self, approval_id: int) -> None:
        super().__init__(f"Approval {approval_id} not found")


class SubjectNotFound(NotFound):
    """An approval is asked for about something that does not exist."""

    code = "subject_not_found"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message, field=field)


class ApprovalNotPending(Conflict):
    """It was decided, has expired or was cancelled: one decision counts."""

    code = "approval_not_pending"

    def __init__(self, approval: Approval) -> None:
        super().__init__(
            f"Approval {approval.id} is {approval.status.value} already",
            status=approval.status.value,
        )


class MayNotDecide(Forbidden):
    """This principal may not decide this approval."""

    code = "may_not_decide"

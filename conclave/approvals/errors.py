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


class AlreadyVoted(Conflict):
    """One person's word counts once."""

    code = "already_voted"

    def __init__(self, approval: Approval) -> None:
        super().__init__(
            f"You have voted on approval {approval.id} already: one vote a person.",
            status=approval.status.value,
        )


class ArgumentsEdited(Conflict):
    """Somebody edited the arguments before: a yes has to say which ones it is for."""

    code = "arguments_edited"

    def __init__(self, approval: Approval) -> None:
        super().__init__(
            f"The arguments of approval {approval.id} were edited by somebody who voted:"
            " send the arguments that you approve.",
            status=approval.status.value,
            arguments=approval.arguments,
        )


class TaskHasEnded(Conflict):
    """Nothing can be asked for a task that is over."""

    code = "task_has_ended"

    def __init__(self, task_id: int) -> None:
        super().__init__(f"Task {task_id} has ended")


class MayNotDecide(Forbidden):
    """This principal may not decide this approval."""

    code = "may_not_decide"

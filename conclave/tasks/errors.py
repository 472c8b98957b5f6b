"""What can go wrong with tasks."""

from __future__ import annotations

from conclave.errors import Conflict, NotFound
from schema.domain.tasks import TaskStatus


class TaskNotFound(NotFound):
    """Unknown or deleted."""

    def __init__(self, task_id: int) -> None:
        super().__init__(f"Task {task_id} not found")


class TransitionRefused(Conflict):
    """A task's status does not allow it."""

    code = "transition_refused"

    def __init__(self, task_id: int, status: TaskStatus, wish: str) -> None:
        super().__init__(
            f"Task {task_id} is {status.value}: it cannot be {wish}", status=status.value
        )


class DeadLetterNotFound(NotFound):
    """Unknown or discarded."""

    def __init__(self, dead_letter_id: int) -> None:
        super().__init__(f"Dead letter {dead_letter_id} not found")


class DeadLetterClosed(Conflict):
    """It was retried or discarded before."""

    code = "dead_letter_closed"

    def __init__(self, dead_letter_id: int, status: str) -> None:
        super().__init__(f"Dead letter {dead_letter_id} is {status} already", status=status)


class DeadLetterOpen(Conflict):
    """The task has an open dead letter already."""

    code = "dead_letter_open"

    def __init__(self, task_id: int) -> None:
        super().__init__(f"Task {task_id} has an open dead letter already", status="failed")

"""What other parts of the core tell of agents and ask of them, inside their own transactions."""

from __future__ import annotations

from typing import Protocol

from conclave.db import Transaction
from schema.domain.tasks import TaskErrorType


class AgentRecord(Protocol):
    """Keeps what agents did, and whether they are at work.

    Every call locks the agent's row until the transaction ends and may append an event: the last
    things a transaction does, after its conversation and its task are locked and changed. An
    agent that does not exist is passed over.
    """

    async def task_started(self, tx: Transaction, agent_id: int) -> None:
        """Tell that it is busy, where it was not. The task's row says `in_progress` already."""
        ...

    async def task_ended(
        self,
        tx: Transaction,
        agent_id: int,
        *,
        completed: bool,
        seconds: float,
        error_type: TaskErrorType | None = None,
        reason: str | None = None,
    ) -> None:
        """Count a task that was completed or failed for good, and took so many seconds.

        Refused credentials (`auth`) and the third failure in a row put the agent into `error`,
        until somebody starts it. The task's row does not say `in_progress` any more.
        """
        ...

    async def task_left(self, tx: Transaction, agent_id: int) -> None:
        """Tell that it is idle, where it is: a task was cancelled, requeued or waits.

        Not for `TaskDesk.release`, whose caller tells of the agent.
        """
        ...

    async def pause(self, tx: Transaction, agent_id: int, *, reason: str) -> None:
        """Give it no more work until somebody starts it: its daily budget is spent.

        What runs is left to end. One that is at rest already stays as it is.
        """
        ...


class AgentTurns(Protocol):
    """The turns of agents outside tasks: in conversations, sessions and chats."""

    async def stop(self, tx: Transaction, agent_id: int) -> None:
        """Stop those that run. Their conversations are locked, and stay as they are else."""
        ...

"""What other parts of the core tell of agents and ask of them, inside their own transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from conclave.db import Transaction
from schema.domain.tasks import TaskErrorType


class AgentRecord(Protocol):
    """Keeps what agents did, and whether they are at work.

    `task_ended` and `tell` lock agents until the transaction ends, after conversations and tasks.
    An agent that does not exist is passed over.
    """

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
        """Count a task that failed for good, or was completed by hand after so many seconds.

        Those that agents complete are counted with their end, without the lock. Refused
        credentials (`auth`) and the third failure in a row put the agent into `error`, until
        somebody starts it.
        """
        ...

    async def untold(self, tx: Transaction) -> list[int]:
        """Return those of whom something else was told than what tasks and budgets made them."""
        ...

    async def tell(self, tx: Transaction, agent_ids: Sequence[int]) -> None:
        """Tell whether agents are busy, idle or paused: in a transaction of its own.

        The dispatcher does, whose passes follow every commit that begins or ends work on a task.
        """
        ...


class AgentTurns(Protocol):
    """The turns of agents outside tasks: in conversations, sessions and chats."""

    async def stop(self, tx: Transaction, agent_id: int) -> None:
        """Stop those that run. Their conversations are locked, and stay as they are else."""
        ...

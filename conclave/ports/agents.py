"""What other parts of the core tell of agents and ask of them, inside their own transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from conclave.db import Transaction
from schema.domain.tasks import TaskErrorType


class AgentRecord(Protocol):
    """Keeps what agents did, and whether they are at work.

    `task_ended` and `pause` lock the agent's row until the transaction ends: the last things a
    transaction does, after its conversation and its task are locked and changed. An agent that
    does not exist is passed over.
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
        """Return the agents that tasks have made busy or idle since that was told last."""
        ...

    async def tell(self, tx: Transaction, agent_ids: Sequence[int]) -> None:
        """Tell whether agents are busy or idle, in a transaction of its own: it locks them.

        The dispatcher does, whose passes follow every commit that begins or ends work on a task.
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

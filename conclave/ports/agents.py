"""What the record of an agent is told of its work, inside the transactions that end it."""

from __future__ import annotations

from typing import Protocol

from conclave.db import Transaction


class AgentRecord(Protocol):
    """Keeps an agent's counters, and notices one that fails again and again."""

    async def task_ended(
        self, tx: Transaction, agent_id: int, *, completed: bool, seconds: float
    ) -> None:
        """Count a task that ended; `seconds` is what it took from its first start."""
        ...

    async def credentials_refused(self, tx: Transaction, agent_id: int, reason: str) -> None:
        """Note that the provider does not take the agent's key: it shows as in error."""
        ...

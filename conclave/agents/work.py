"""What agents do just now, as far as starting and stopping an agent changes it."""

from __future__ import annotations

from conclave.db import Transaction
from conclave.ports.agents import AgentTurns
from conclave.ports.tasks import TaskDesk


class Work:
    """Stops what an agent does, and lets it be given more.

    Conversations and tasks are locked before their agent, as those who run them do: call `stop`
    before the agent's row is locked.
    """

    def __init__(self, turns: AgentTurns, tasks: TaskDesk | None = None) -> None:
        self._turns = turns
        self.tasks = tasks
        """Set once both are built: each needs the other."""

    async def stop(self, tx: Transaction, agent_id: int, *, keep_agent: bool) -> None:
        """Stop what runs; open tasks go back to pending, and stay the agent's where it stays."""
        await self._turns.stop(tx, agent_id)
        if self.tasks is not None:
            await self.tasks.release(tx, agent_id, keep_agent=keep_agent)

    async def pay_for_more(self, tx: Transaction) -> None:
        """Let tasks that wait for budget try again: an agent may spend more than before."""
        if self.tasks is not None:
            await self.tasks.budget_changed(tx)

    async def look_for_more(self, tx: Transaction) -> None:
        """Hand out tasks once this is committed: somebody may take more than before."""
        if self.tasks is not None:
            await self.tasks.dispatch_soon(tx)

"""What becomes of agents by what they do: counters, and the status that follows from it."""

from __future__ import annotations

from collections.abc import Sequence

from conclave.agents.repository import AgentRepository
from conclave.agents.telling import tell_status
from conclave.db import Transaction
from conclave.events import EventLog
from conclave.ports.notifications import Notifier
from conclave.ports.settings import NamedSettings
from schema.domain.agents import AgentStatus
from schema.domain.events import EventType
from schema.domain.notifications import Severity
from schema.domain.tasks import TaskErrorType

MOST_FAILURES = 3
"""So many tasks that fail in a row put an agent into error."""
_TELLS = "notifications.notify_agent_error"


class AgentStanding:
    """An `AgentRecord`: see there for what callers have to have done before."""

    def __init__(self, events: EventLog, notifier: Notifier, settings: NamedSettings) -> None:
        self._events = events
        self._notifier = notifier
        self._settings = settings
        self._agents = AgentRepository()

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
        """Count a task that is over, and tell of an error that follows."""
        is_refused = error_type is TaskErrorType.AUTH
        state = await self._agents.note_task(
            tx,
            agent_id,
            completed=int(completed),
            failed=int(not completed),
            seconds=seconds if completed else 0,
            rests=is_refused,
            most_failures=MOST_FAILURES,
        )
        if state is AgentStatus.ERROR:
            why = reason if is_refused else f"{MOST_FAILURES} tasks in a row failed"
            await self._fail(tx, agent_id, why or "The provider refused the credentials")

    async def untold(self, tx: Transaction) -> list[int]:
        """Return those of whom something else was told than what tasks and budgets made them."""
        return await self._agents.untold(tx)

    async def tell(self, tx: Transaction, agent_ids: Sequence[int]) -> None:
        """Tell whether agents are busy, idle or paused, where that was told otherwise."""
        for agent_id in sorted(agent_ids):
            told = await self._agents.hold_told(tx, agent_id)
            agent = None if told is None else await self._agents.get(tx, agent_id)
            if told is not None and agent is not None:
                is_paused = agent.status is AgentStatus.PAUSED
                reason = "Its daily budget is spent" if is_paused else None
                await tell_status(tx, self._agents, self._events, agent, told, reason)

    async def _fail(self, tx: Transaction, agent_id: int, reason: str) -> None:
        agent = await self._agents.get(tx, agent_id)
        if agent is None:
            return
        await tell_status(tx, self._agents, self._events, agent, AgentStatus.BUSY, reason)
        if not (await self._settings.current(_TELLS))[_TELLS].value:
            return
        await self._notifier.notify(
            tx,
            title=f"Agent {agent.name} is in error",
            message=f"{reason}. It is given no more work until somebody starts it.",
            severity=Severity.ERROR,
            event_type=EventType.AGENT_STATUS.value,
            metadata={"agent_id": agent.id},
        )

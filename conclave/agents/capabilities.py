"""Capabilities: what an agent is said to be able to do, beyond the tools that it has.

Tasks may ask for some; the dispatcher gives such a task to an agent that has all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from conclave.agents.capability_repository import CapabilityRepository
from conclave.agents.errors import AgentNotFound
from conclave.agents.repository import AgentRepository
from conclave.agents.telling import agent_event
from conclave.agents.work import Work
from conclave.auditing import AuditLog
from conclave.db import Database, Transaction
from conclave.events import EventLog
from schema.domain.agents import Agent, Capability
from schema.domain.events import EventType


class CapabilityService:
    """Lists, adds and removes the capabilities of agents."""

    def __init__(self, db: Database, events: EventLog, audit: AuditLog, work: Work) -> None:
        self._db = db
        self._events = events
        self._audit = audit
        self._work = work
        self._agents = AgentRepository()
        self._capabilities = CapabilityRepository()

    async def list(self, agent_id: int) -> Sequence[Capability]:
        """Return an agent's, oldest first. Raises `AgentNotFound`."""
        async with self._db.transaction() as tx:
            await self._agent(tx, agent_id)
            return await self._capabilities.of_agent(tx, agent_id)

    async def add(self, agent_id: int, name: str) -> Capability:
        """Add one, or return it where the agent has it; what waits for it is handed out.

        Raises `AgentNotFound`.
        """
        async with self._db.transaction() as tx:
            agent = await self._agent(tx, agent_id)
            added = await self._capabilities.insert(tx, agent_id, name)
            if added is None:
                return await self._capabilities.named(tx, agent_id, name)
            await self._work.look_for_more(tx)
            await self._tell(tx, agent, "agent_capability_added", name)
        return added

    async def remove(self, agent_id: int, capability_id: int) -> bool:
        """Remove one; False where the agent has none of that id. Raises `AgentNotFound`."""
        async with self._db.transaction() as tx:
            agent = await self._agent(tx, agent_id)
            name = await self._capabilities.delete(tx, agent_id, capability_id)
            if name is not None:
                # Whether anybody fits what waits may have changed: it says so.
                await self._work.look_for_more(tx)
                await self._tell(tx, agent, "agent_capability_removed", name)
        return name is not None

    async def _agent(self, tx: Transaction, agent_id: int) -> Agent:
        agent = await self._agents.get(tx, agent_id)
        if agent is None:
            raise AgentNotFound(agent_id)
        return agent

    async def _tell(self, tx: Transaction, agent: Agent, action: str, name: str) -> None:
        await self._audit.record(tx, action, "agent", agent.id, details=name)
        told = agent_event(EventType.AGENT_UPDATED, agent, changed=["capabilities"])
        await self._events.append(tx, [told])

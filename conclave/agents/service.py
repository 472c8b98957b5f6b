"""Agents: making, finding, changing and deleting them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pydantic import JsonValue

from conclave.agents.commands import BusyPolicy, CreateAgent, UpdateAgent
from conclave.agents.errors import AgentBusy, AgentNotFound
from conclave.agents.repository import AgentRepository
from conclave.agents.slugs import first_free, slug_of
from conclave.auditing import AuditLog, changed
from conclave.db import Database, Transaction
from conclave.errors import Conflict
from conclave.events import EventLog
from conclave.merging import merge
from conclave.ports.tools import ApprovalDesk
from schema.domain.agents import Agent, AgentConfig, AgentStatus, Personality
from schema.domain.events import EventDraft, EventType

_STEM_LENGTH = 56
"""Slugs that may collide share this many characters: the rest makes room for a number."""


class AgentService:
    """The use cases of agents."""

    def __init__(self, db: Database, events: EventLog, audit: AuditLog) -> None:
        self._db = db
        self._events = events
        self._audit = audit
        self._agents = AgentRepository()
        self.approvals: ApprovalDesk | None = None
        """Set once it is built: an agent's pending approvals end with it."""

    async def create(self, command: CreateAgent) -> Agent:
        """Store a new agent under a slug of its own."""
        values = command.model_dump(mode="json")
        async with self._db.transaction() as tx:
            agent_id = await self._insert(tx, slug_of(command.name), values)
            return await self._made(tx, agent_id)

    async def ensure(self, slug: str, command: CreateAgent) -> Agent:
        """Return the agent of exactly that slug, stored now where there is none."""
        values = command.model_dump(mode="json")
        async with self._db.transaction() as tx:
            agent_id = await self._agents.insert(tx, slug, values)
            if agent_id is not None:
                return await self._made(tx, agent_id)
            found = await self._agents.by_slug(tx, slug)
        if found is None:
            raise Conflict(f"The agent {slug!r} was deleted just now")
        return found

    async def _made(self, tx: Transaction, agent_id: int) -> Agent:
        """Tell of an agent that was just stored."""
        agent = await self._get(tx, agent_id)
        await self._tell(tx, EventType.AGENT_CREATED, agent)
        await self._record(tx, "agent_created", None, agent)
        return agent

    async def _insert(self, tx: Transaction, base: str, values: dict[str, object]) -> int:
        """Try slugs until one holds: whoever is faster leaves us the next number."""
        agent_id = await self._agents.insert(tx, base, values)
        while agent_id is None:
            taken = await self._agents.numbered_slugs(tx, base, base[:_STEM_LENGTH])
            agent_id = await self._agents.insert(tx, first_free(base, taken), values)
        return agent_id

    async def get(self, agent_id: int) -> Agent:
        """Return one agent. Raises `AgentNotFound`."""
        async with self._db.transaction() as tx:
            return await self._get(tx, agent_id)

    async def by_slug(self, slug: str) -> Agent | None:
        """Return the living agent of that slug, None where there is none."""
        async with self._db.transaction() as tx:
            return await self._agents.by_slug(tx, slug)

    async def by_ids(self, agent_ids: Collection[int]) -> list[Agent]:
        """Return those of the agents that exist, by id."""
        async with self._db.transaction() as tx:
            return await self._agents.by_ids(tx, agent_ids)

    async def list(
        self, statuses: Collection[AgentStatus] | None, limit: int, offset: int
    ) -> tuple[Sequence[Agent], int]:
        """Return a piece of the list and the length of the whole; None means any status."""
        async with self._db.transaction() as tx:
            return await self._agents.list(tx, statuses, limit, offset)

    async def update(self, agent_id: int, command: UpdateAgent) -> Agent:
        """Apply what was set. Raises `AgentNotFound`, or `Invalid` naming the key."""
        values: dict[str, object] = command.model_dump(mode="json", exclude_unset=True)
        async with self._db.transaction() as tx:
            before = await self._get(tx, agent_id, lock=True)
            if "personality" in values:
                stored = before.personality.model_dump()
                merged = merge(Personality, stored, command.personality, "personality")
                values["personality"] = merged.model_dump(mode="json")
            if "config" in values:
                config = merge(AgentConfig, before.config.model_dump(), command.config, "config")
                values["config"] = config.model_dump(mode="json")
            if not values:
                return before
            await self._agents.update(tx, agent_id, values)
            agent = await self._get(tx, agent_id)
            await self._tell(tx, EventType.AGENT_UPDATED, agent, changed=sorted(values))
            await self._record(tx, "agent_updated", before, agent)
        return agent

    async def delete(self, agent_id: int, policy: BusyPolicy) -> None:
        """Delete softly. Raises `AgentBusy` where the policy refuses to interrupt a turn."""
        async with self._db.transaction() as tx:
            agent = await self._get(tx, agent_id, lock=True)
            if policy is BusyPolicy.REFUSE and agent.status is AgentStatus.BUSY:
                raise AgentBusy(agent.id, agent.name)
            await self._agents.delete(tx, agent_id)
            if self.approvals is not None:
                await self.approvals.cancel_of(tx, agent_id=agent_id)
            await self._tell(tx, EventType.AGENT_DELETED, agent)
            await self._record(tx, "agent_deleted", agent, None)

    async def _record(
        self, tx: Transaction, action: str, before: Agent | None, after: Agent | None
    ) -> None:
        agent = after or before
        changes = changed(_columns(before), _columns(after))
        await self._audit.record(tx, action, "agent", agent and agent.id, changes=changes)

    async def _get(self, tx: Transaction, agent_id: int, *, lock: bool = False) -> Agent:
        agent = await self._agents.get(tx, agent_id, lock=lock)
        if agent is None:
            raise AgentNotFound(agent_id)
        return agent

    async def _tell(
        self, tx: Transaction, kind: EventType, agent: Agent, changed: Sequence[str] = ()
    ) -> None:
        data: dict[str, JsonValue] = {
            "agent_id": agent.id,
            "name": agent.name,
            "slug": agent.slug,
            "role": agent.role,
            "status": agent.status.value,
        }
        if changed:
            data["changed"] = list(changed)
        draft = EventDraft(stream=f"agent-{agent.id}", type=kind, data=data, agent_id=agent.id)
        await self._events.append(tx, [draft])


def _columns(agent: Agent | None) -> dict[str, JsonValue]:
    """Return what people set, as the audit log compares it."""
    if agent is None:
        return {}
    return agent.model_dump(mode="json", exclude={"id", "status", "created_at", "updated_at"})

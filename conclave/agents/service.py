"""Agents: making, finding, changing, starting, stopping and deleting them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from conclave.agents.changes import (
    AT_WORK,
    column_values,
    lets_spend_more,
    lets_take_more,
    prompt_of,
    refuse_worker,
)
from conclave.agents.commands import AgentFilter, BusyPolicy, CreateAgent, UpdateAgent
from conclave.agents.errors import AgentBusy, AgentNotFound, SlugTaken
from conclave.agents.repository import AgentRepository
from conclave.agents.slugs import first_free, slug_of
from conclave.agents.telling import agent_event, audited, tell_status
from conclave.agents.work import Work
from conclave.auditing import AuditLog, changed
from conclave.db import Database, Transaction
from conclave.errors import Conflict
from conclave.events import EventLog
from conclave.ports.tools import ApprovalDesk
from schema.domain.agents import AT_REST, Agent, AgentStatus
from schema.domain.events import EventType

_STEM_LENGTH = 56
"""Slugs that may collide share this many characters: the rest makes room for a number."""


class AgentService:
    """The use cases of agents. `work` is what they do just now."""

    def __init__(self, db: Database, events: EventLog, audit: AuditLog, work: Work) -> None:
        self._db = db
        self._events = events
        self._audit = audit
        self.work = work
        self._agents = AgentRepository()
        self.approvals: ApprovalDesk | None = None
        """Set once it is built: an agent's pending approvals end with it."""

    async def create(self, command: CreateAgent) -> Agent:
        """Store a new agent. Raises `SlugTaken` for a slug it names, `Missing` for its worker."""
        values = _row(command)
        async with self._db.transaction() as tx:
            if command.slug is None:
                agent_id = await self._insert(tx, slug_of(command.name), values)
            else:
                agent_id = await self._agents.insert(tx, command.slug, values)
                if agent_id is None:
                    raise SlugTaken(command.slug)
            return await self._made(tx, agent_id)

    async def ensure(self, slug: str, command: CreateAgent) -> Agent:
        """Return the agent of exactly that slug, stored now where there is none."""
        async with self._db.transaction() as tx:
            agent_id = await self._agents.insert(tx, slug, _row(command))
            if agent_id is not None:
                return await self._made(tx, agent_id)
            found = await self._agents.by_slug(tx, slug)
        if found is None:
            raise Conflict(f"The agent {slug!r} was deleted just now")
        return found

    async def _made(self, tx: Transaction, agent_id: int) -> Agent:
        """Tell of an agent that was just stored."""
        agent = await self._get(tx, agent_id)
        await self.work.look_for_more(tx)
        await self._record(tx, "agent_created", None, agent)
        await self._events.append(tx, [agent_event(EventType.AGENT_CREATED, agent)])
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
        self, wanted: AgentFilter, limit: int, offset: int
    ) -> tuple[Sequence[Agent], int]:
        """Return a piece of the list and the length of the whole."""
        async with self._db.transaction() as tx:
            return await self._agents.list(tx, wanted, limit, offset)

    async def update(self, agent_id: int, command: UpdateAgent) -> Agent:
        """Apply what was set; pausing and stopping end what it does.

        Raises `AgentNotFound`, `Missing`, or `Invalid` naming the key.
        """
        async with self._db.transaction() as tx:
            before = await self._locked(tx, agent_id, stops=command.stops_work)
            values = column_values(before, command)
            if not values:
                return before
            agent = await self._change(tx, before, values)
            await self._record(tx, "agent_updated", before, agent)
            told = [agent_event(EventType.AGENT_UPDATED, agent, changed=sorted(values))]
            await self._events.append(tx, told)
            await tell_status(tx, self._agents, self._events, agent, before.status)
        return agent

    async def start(self, agent_id: int) -> Agent:
        """Let it work, whatever kept it from it. Raises `AgentNotFound`."""
        values: dict[str, object] = {"state": AT_WORK, "failed_in_a_row": 0}
        return await self._set(agent_id, values, "agent_started", stops=False)

    async def stop(self, agent_id: int) -> Agent:
        """End what it does and give it no more; its tasks wait for it. Raises `AgentNotFound`."""
        values: dict[str, object] = {"state": AgentStatus.OFFLINE.value}
        return await self._set(agent_id, values, "agent_stopped", stops=True)

    async def delete(self, agent_id: int, policy: BusyPolicy) -> None:
        """Delete softly; its tasks become anybody's.

        Raises `AgentBusy` where the policy refuses to interrupt what it does.
        """
        async with self._db.transaction() as tx:
            if policy is BusyPolicy.REFUSE:
                _refuse_busy(await self._get(tx, agent_id))
            agent = await self._locked(tx, agent_id, stops=True, keeps=False)
            if policy is BusyPolicy.REFUSE:
                # As the record says under the lock: what has begun since is not interrupted.
                _refuse_busy(agent)
            await self._agents.delete(tx, agent_id)
            if self.approvals is not None:
                await self.approvals.cancel_of(tx, agent_id=agent_id)
            await self.work.look_for_more(tx)
            await self._record(tx, "agent_deleted", agent, None)
            await self._events.append(tx, [agent_event(EventType.AGENT_DELETED, agent)])

    async def _set(
        self, agent_id: int, values: dict[str, object], action: str, *, stops: bool
    ) -> Agent:
        """Change its standing, and tell of it where that is another one."""
        async with self._db.transaction() as tx:
            before = await self._locked(tx, agent_id, stops=stops)
            agent = await self._change(tx, before, values)
            changes = changed({"status": before.status.value}, {"status": agent.status.value})
            await self._audit.record(tx, action, "agent", agent_id, changes=changes)
            await tell_status(tx, self._agents, self._events, agent, before.status)
        return agent

    async def _change(self, tx: Transaction, before: Agent, values: dict[str, object]) -> Agent:
        await self._agents.update(tx, before.id, values)
        if lets_take_more(values):
            await self.work.look_for_more(tx)
        if lets_spend_more(values):
            await self.work.pay_for_more(tx)
        return await self._get(tx, before.id)

    async def _locked(
        self, tx: Transaction, agent_id: int, *, stops: bool, keeps: bool = True
    ) -> Agent:
        """Lock an agent; `stops` ends what it does first, and what it was is returned.

        Conversations and tasks are locked before their agent by whoever runs them.
        """
        if not stops:
            return await self._get(tx, agent_id, lock=True)
        seen = await self._get(tx, agent_id)
        await self.work.stop(tx, agent_id, keep_agent=keeps)
        before = await self._get(tx, agent_id, lock=True)
        if before.status in AT_REST or seen.status in AT_REST:
            return before
        return before.model_copy(update={"status": seen.status})

    async def _record(
        self, tx: Transaction, action: str, before: Agent | None, after: Agent | None
    ) -> None:
        agent = after or before
        changes = changed(audited(before), audited(after))
        await self._audit.record(tx, action, "agent", agent and agent.id, changes=changes)

    async def _get(self, tx: Transaction, agent_id: int, *, lock: bool = False) -> Agent:
        agent = await self._agents.get(tx, agent_id, lock=lock)
        if agent is None:
            raise AgentNotFound(agent_id)
        return agent


def _row(command: CreateAgent) -> dict[str, object]:
    """Return the columns of a new agent. Raises `Missing` for its worker."""
    refuse_worker(command.worker_id)
    values: dict[str, object] = command.model_dump(mode="json", exclude={"slug"})
    if command.system_prompt is None:
        values["system_prompt"] = prompt_of(command.config)
    return values


def _refuse_busy(agent: Agent) -> None:
    if agent.status is AgentStatus.BUSY:
        raise AgentBusy(agent.id, agent.name)

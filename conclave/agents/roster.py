"""Agents with what they used and where mail reaches them: what the platform dialect shows."""

from __future__ import annotations

from collections.abc import Sequence

from conclave.agents.commands import AgentFilter, CreateAgent, EnrollAgent, UpdateAgent
from conclave.agents.repository import AgentRepository
from conclave.agents.service import AgentService
from conclave.db import Database
from conclave.ports.models import ModelDefaults
from conclave.ports.settings import NamedSettings
from schema.domain.agents import Agent, AgentProfile, AgentUsage

_SENDER = "email.smtp_from"


class AgentRoster:
    """Every use case is that of `AgentService`, and raises what that raises."""

    def __init__(
        self,
        db: Database,
        agents: AgentService,
        defaults: ModelDefaults,
        settings: NamedSettings,
    ) -> None:
        self._db = db
        self._agents = agents
        self._defaults = defaults
        self._settings = settings
        self._repository = AgentRepository()

    async def list(
        self, wanted: AgentFilter, limit: int, offset: int
    ) -> tuple[Sequence[AgentProfile], int]:
        """Return a piece of the list and the length of the whole."""
        agents, total = await self._agents.list(wanted, limit, offset)
        return await self._profiles(agents), total

    async def get(self, agent_id: int) -> AgentProfile:
        """Return one agent."""
        return await self._profile(await self._agents.get(agent_id))

    async def create(self, command: EnrollAgent) -> AgentProfile:
        """Store a new agent; a model it does not name is the default one of its provider."""
        provider, model = await self._defaults.of_agent(command.provider)
        named = {"provider": provider, "model": command.model or model}
        given = command.model_dump(exclude_unset=True) | named
        return await self._profile(await self._agents.create(CreateAgent.model_validate(given)))

    async def update(self, agent_id: int, command: UpdateAgent) -> AgentProfile:
        """Apply what was set."""
        return await self._profile(await self._agents.update(agent_id, command))

    async def start(self, agent_id: int) -> AgentProfile:
        """Let it work."""
        return await self._profile(await self._agents.start(agent_id))

    async def stop(self, agent_id: int) -> AgentProfile:
        """End what it does and give it no more."""
        return await self._profile(await self._agents.stop(agent_id))

    async def _profile(self, agent: Agent) -> AgentProfile:
        return (await self._profiles([agent]))[0]

    async def _profiles(self, agents: Sequence[Agent]) -> list[AgentProfile]:
        if not agents:
            return []
        async with self._db.autocommit() as tx:
            usage = await self._repository.usage(tx, [agent.id for agent in agents])
        domain = await self._domain()
        return [
            AgentProfile(
                agent=agent,
                usage=usage.get(agent.id, AgentUsage()),
                email=None if domain is None else f"{agent.slug}@{domain}",
            )
            for agent in agents
        ]

    async def _domain(self) -> str | None:
        """Return the domain that mail is sent from (`name@host`, or `Some Name <name@host>`)."""
        sender = (await self._settings.current(_SENDER))[_SENDER].value
        return str(sender).rsplit("@", 1)[1].rstrip("> ") if sender else None

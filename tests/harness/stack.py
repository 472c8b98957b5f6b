"""The product in one process: real PostgreSQL and Temporal, a worker, a scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete
from temporalio.client import Client

from conclave.agents.commands import CreateAgent
from conclave.container import Core, build_core, temporal_client
from conclave.conversations.commands import CreateConversation
from conclave.crypto import new_key
from conclave.ports.models import ProfileDirectory
from conclave.ports.tools import Toolbox
from conclave.settings import Settings
from schema.domain.agents import Agent
from schema.domain.conversations import Conversation, ConversationStatus, Message
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.providers import ProviderName
from schema.tables.breakers import BreakerRow
from tests.fakes.model_server import ModelServer
from tests.waiting import until
from worker.main import build_worker
from worker.parts import WorkerParts, build_worker_parts
from workflows.engine import TemporalEngine

MODEL = "gpt-4o-mini"


@dataclass
class Stack:
    """What a test works with."""

    settings: Settings
    core: Core
    client: Client
    parts: WorkerParts
    model: ModelServer

    async def agents(self, *names: str, model: str = MODEL) -> list[Agent]:
        """Make agents that speak through the scripted model."""
        return [
            await self.core.agents.create(
                CreateAgent(name=name, provider=ProviderName.OPENAI, model=model)
            )
            for name in names
        ]

    async def conversation(self, agents: list[Agent], **fields: object) -> Conversation:
        """Start a conversation between agents."""
        values = {"topic": "tea", "agent_ids": [agent.id for agent in agents], **fields}
        return await self.core.conversations.create(
            CreateConversation.model_validate(values), LOCAL_PRINCIPAL
        )

    async def get(self, conversation_id: int) -> Conversation:
        """Read a conversation."""
        return await self.core.conversations.get(conversation_id, LOCAL_PRINCIPAL)

    async def messages(self, conversation_id: int) -> list[Message]:
        """Read a transcript."""
        page, _ = await self.core.conversations.messages(
            conversation_id, LOCAL_PRINCIPAL, after_seq=0, limit=500
        )
        return page

    async def reaches(
        self, conversation_id: int, status: ConversationStatus, *, timeout: float = 20
    ) -> Conversation:
        """Wait until a conversation has a status."""

        async def arrived() -> Conversation | None:
            found = await self.get(conversation_id)
            return found if found.status is status else None

        found = await until(arrived, timeout=timeout, what=f"status {status}")
        assert found is not None
        return found

    async def close_circuits(self) -> None:
        """Let no failure of an earlier test count."""
        async with self.core.db.transaction() as tx:
            await tx.conn.execute(delete(BreakerRow))
        self.core.breakers.forget()


@asynccontextmanager
async def running_stack(
    postgres_url: str,
    temporal_address: str,
    *,
    encryption_key: str | None = None,
    toolbox: Toolbox | None = None,
    data_dir: Path | None = None,
    profiles: ProfileDirectory | None = None,
) -> AsyncGenerator[Stack]:
    """Run core, worker and scripted model until the block ends; with a fresh key, or this one."""
    async with ModelServer() as model:
        settings = Settings.model_validate(
            {
                "database_url": postgres_url,
                "temporal_address": temporal_address,
                "encryption_key": encryption_key or new_key(),
                "advance_wait_seconds": 30,
                **({} if data_dir is None else {"conclave_data_dir": data_dir}),
            }
        )
        client = await temporal_client(settings)
        environment = {"OPENAI_BASE_URL": model.base_url, "OPENAI_API_KEY": "sk-test-key-123456"}
        core = await build_core(
            settings,
            engine=TemporalEngine(client),
            name="tests",
            environment=environment,
            toolbox=toolbox,
            profiles=profiles,
        )
        parts = build_worker_parts(core)
        await asyncio.to_thread(parts.load)
        try:
            async with build_worker(settings, client, parts):
                yield Stack(settings, core, client, parts, model)
        finally:
            await parts.gateway.close()
            await core.close()

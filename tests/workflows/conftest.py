"""What tests of turns, the relay and the record share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import delete

from conclave.container import build_core
from conclave.crypto import new_key
from conclave.db import Database
from conclave.settings import Settings
from schema.tables.inbox import OutboxRow
from tests.fakes.engine import FakeEngine
from tests.fakes.gateway import ScriptedGateway
from tests.harness.desk import Desk
from tests.waiting import until


@pytest.fixture(scope="session")
async def session_desk(postgres_url: str) -> AsyncIterator[Desk]:
    """The session's core on a fake engine and a scripted gateway."""
    settings = Settings.model_validate(
        {
            "database_url": postgres_url,
            "encryption_key": new_key(),
            "advance_wait_seconds": 0.1,
        }
    )
    engine = FakeEngine()
    environment = {"OPENAI_API_KEY": "sk-test-key-123456"}
    core = await build_core(settings, engine=engine, name="desk", environment=environment)
    yield Desk(core, engine, ScriptedGateway())
    await core.close()


@pytest.fixture
async def desk(session_desk: Desk, database: Database) -> AsyncIterator[Desk]:
    """The same, with nothing owed, remembered or scripted."""
    async with database.transaction() as tx:
        await tx.conn.execute(delete(OutboxRow))
    session_desk.engine.reset()
    session_desk.gateway.reset()
    yield session_desk
    await until(lambda: session_desk.core.errands.is_idle, what="the errands")
    async with database.transaction() as tx:
        await tx.conn.execute(delete(OutboxRow))

"""The core without a Temporal server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conclave.container import Core, build_core
from conclave.db import Database
from conclave.settings import Settings
from tests.fakes.engine import FakeEngine


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def core(
    clean_database: Database, postgres_url: str, tmp_path: Path, engine: FakeEngine
) -> AsyncIterator[Core]:
    settings = Settings(
        database_url=postgres_url, conclave_data_dir=tmp_path, encryption_key=None, redis_url=None
    )
    core = await build_core(settings, engine=engine, environment={})
    yield core
    await core.close()

"""The application in-process, over a real database and a fake engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import structlog
from fastapi import FastAPI

from api.app import create_app
from conclave.container import Core, build_core
from conclave.db import Database
from conclave.settings import AuthMode, Settings
from tests.fakes.engine import FakeEngine
from tests.waiting import until

BASE_URL = "http://127.0.0.1:8000"


def local_client(app: FastAPI, base_url: str = BASE_URL) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=base_url)


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """structlog's own default draws pretty tracebacks, which takes seconds each."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )


@pytest.fixture(scope="session")
def api_settings(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    data_dir: Path = tmp_path_factory.mktemp("data")
    return Settings(
        auth_mode=AuthMode.LOCAL,
        database_url=postgres_url,
        conclave_data_dir=data_dir,
        temporal_ui_url="http://127.0.0.1:8233",
        encryption_key=None,
        redis_url=None,
        max_body_bytes=1024 * 1024,
        advance_wait_seconds=0.05,
    )


@pytest.fixture(scope="session")
def shared_engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def engine(shared_engine: FakeEngine) -> FakeEngine:
    shared_engine.reset()
    return shared_engine


@pytest.fixture(scope="session")
async def core(api_settings: Settings, shared_engine: FakeEngine) -> AsyncIterator[Core]:
    core = await build_core(api_settings, engine=shared_engine)
    yield core
    await core.close()


@pytest.fixture(scope="session")
def app(api_settings: Settings, core: Core) -> FastAPI:
    return create_app(api_settings, core)


@pytest.fixture
async def client(
    app: FastAPI, core: Core, clean_database: Database, engine: FakeEngine
) -> AsyncIterator[httpx.AsyncClient]:
    """A caller on loopback; wake-ups still under way are waited for before tables are emptied."""
    async with local_client(app) as client:
        yield client
    await until(
        lambda: not core.dispatch._wakes and not core.project_dispatch._wakes, what="the wake-ups"
    )

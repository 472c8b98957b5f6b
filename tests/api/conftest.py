"""The application in-process, over a real database and a fake engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from conclave.container import Core, build_core
from conclave.db import Database
from conclave.settings import AuthMode, Settings
from schema.domain.security import SecurityConfig
from tests.fakes.callers import FakeAuthenticator
from tests.fakes.engine import FakeEngine
from tests.harness.logs import log_plainly
from tests.waiting import until

BASE_URL = "http://127.0.0.1:8000"


def local_client(app: FastAPI, base_url: str = BASE_URL) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=base_url)


def forget_settings(core: Core) -> None:
    """Let nothing be believed that a test before this one had stored: the tables were emptied."""
    core.security._config.replace(SecurityConfig())
    core.security._rules.replace([])
    core.providers._known.forget()
    core.configuration._plain._rows.replace({})


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    log_plainly()


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
def authenticator(core: Core) -> Generator[FakeAuthenticator]:
    """Knows the callers of `tests.fakes.callers` for as long as the test runs."""
    before, core.authenticator = core.authenticator, FakeAuthenticator()
    yield core.authenticator
    core.authenticator = before


@pytest.fixture
async def outside(
    api_settings: Settings,
    core: Core,
    clean_database: Database,
    engine: FakeEngine,
    authenticator: FakeAuthenticator,
) -> AsyncIterator[httpx.AsyncClient]:
    """A caller under AUTH_MODE=required, who shows no credentials of its own accord."""
    forget_settings(core)
    settings = api_settings.model_copy(update={"auth_mode": AuthMode.REQUIRED})
    async with local_client(create_app(settings, core), "https://conclave.example") as client:
        yield client
    await until(lambda: core.errands.is_idle, what="the errands")


@pytest.fixture
async def client(
    app: FastAPI, core: Core, clean_database: Database, engine: FakeEngine
) -> AsyncIterator[httpx.AsyncClient]:
    """A caller on loopback; errands still under way are waited for before tables are emptied."""
    forget_settings(core)
    async with local_client(app) as client:
        yield client
    await until(lambda: core.errands.is_idle, what="the errands")

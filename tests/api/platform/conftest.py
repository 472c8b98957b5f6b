"""Platform routes need credentials in every mode: `client` is an administrator here, and so is
`caller`, who has an account."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from api.app import create_app
from conclave.container import Core, build_core
from conclave.settings import Settings
from tests.api.conftest import forget_settings, local_client
from tests.api.platform.writes import ADA, Site
from tests.fakes.callers import FakeAuthenticator, bearer
from tests.fakes.engine import FakeEngine
from tests.harness.accounts import Accounts


@pytest.fixture
async def client(client: httpx.AsyncClient, authenticator: FakeAuthenticator) -> httpx.AsyncClient:
    """The administrator of `tests.fakes.callers`, on loopback."""
    client.headers.update(bearer("admin"))
    return client


@asynccontextmanager
async def admin_of_another(
    settings: Settings, engine: FakeEngine, **changes: object
) -> AsyncGenerator[httpx.AsyncClient]:
    """The administrator, of an application that is set up otherwise and has no environment."""
    changed = settings.model_copy(update=changes)
    core = await build_core(changed, engine=engine, environment={})
    core.authenticator = FakeAuthenticator()
    try:
        async with local_client(create_app(changed, core)) as client:
            client.headers.update(bearer("admin"))
            yield client
    finally:
        await core.close()


@pytest.fixture
async def site(accounts: Accounts, accounts_core: Core) -> AsyncIterator[Site]:
    forget_settings(accounts_core)
    ada = await accounts.person(ADA)
    accounts.client.headers["authorization"] = f"Bearer {ada.access}"
    yield Site(accounts, ada)
    forget_settings(accounts_core)


@pytest.fixture
def caller(site: Site) -> httpx.AsyncClient:
    return site.http

"""Whole chats: real PostgreSQL, Temporal and uvicorn, a scripted model, tools that note."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from conclave.settings import AuthMode
from schema.domain.permissions import PermissionMode
from tests.api.gateway.talking import Gateway
from tests.api.live import serving
from tests.fakes.callers import FakeAuthenticator
from tests.fakes.model_server import Reply
from tests.fakes.toolbox import TestTools
from tests.harness.stack import running_stack


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> TestTools:
    directory: Path = tmp_path_factory.mktemp("tools")
    return TestTools(directory / "sent.txt")


@pytest.fixture(scope="module")
async def serving_gateway(
    postgres_url: str, temporal_address: str, tools: TestTools
) -> AsyncIterator[Gateway]:
    async with running_stack(postgres_url, temporal_address, toolbox=tools.registry()) as stack:
        stack.core.authenticator = FakeAuthenticator()
        settings = stack.settings.model_copy(update={"auth_mode": AuthMode.REQUIRED})
        async with (
            serving(stack.core, settings) as live,
            httpx.AsyncClient(base_url=live.http, timeout=20) as http,
        ):
            yield Gateway(live, stack, http)


@pytest.fixture
async def gateway(serving_gateway: Gateway, tools: TestTools) -> Gateway:
    tools.reset()
    serving_gateway.stack.model.reset()
    serving_gateway.stack.model.responder = lambda _: Reply(text="nothing more")
    await serving_gateway.mode(PermissionMode.AUTONOMOUS)
    return serving_gateway

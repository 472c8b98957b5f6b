"""What tests share: one loaded litellm and one fake model server; a workspace to break out of;
a workspace under git, and what it was cloned from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conclave.adapters.llm.gateway import LiteLLMGateway
from schema.domain.providers import ProviderAccess, ProviderName
from tests.adapters.checkout import Checkout
from tests.adapters.yard import OPENERS, Yard
from tests.fakes.git_server import Origin
from tests.fakes.model_server import ModelServer


@pytest.fixture(scope="session")
async def gateway() -> AsyncIterator[LiteLLMGateway]:
    """litellm takes seconds to import: once a session."""
    gateway = LiteLLMGateway()
    gateway.load()
    yield gateway
    await gateway.close()


@pytest.fixture(scope="session")
async def running_model_server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture
def model_server(running_model_server: ModelServer) -> ModelServer:
    """The session's server with no script and no requests."""
    running_model_server.reset()
    return running_model_server


@pytest.fixture
def access(model_server: ModelServer) -> ProviderAccess:
    return ProviderAccess(
        provider=ProviderName.OPENAI,
        api_key="sk-test-0123456789abcdef",
        base_url=model_server.base_url,
        default_model="gpt-4o-mini",
    )


@pytest.fixture(params=OPENERS)
def yard(request: pytest.FixtureRequest, tmp_path: Path) -> Yard:
    return Yard(tmp_path, OPENERS[request.param])


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    origin = Origin(tmp_path / "remote")
    origin.commit({"a": "one\n", "dir/b": "two\n"}, "First")
    return origin


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "home")

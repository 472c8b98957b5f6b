"""Whole chats: real PostgreSQL, Temporal and uvicorn, a scripted model, tools that note."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import JsonValue, ValidationError

from api.app import create_app
from conclave.agents.commands import CreateAgent
from conclave.container import Core, build_core
from conclave.crypto import new_key
from conclave.db import Database
from conclave.errors import BadRequest, Invalid
from conclave.settings import AuthMode, Settings
from schema.domain.compaction import Compacted, ContextUse
from schema.domain.identity import Principal
from schema.domain.permissions import PermissionMode
from schema.domain.providers import ProviderName
from schema.domain.sandbox import SandboxConfig, SandboxStatus
from tests.api.conftest import forget_settings
from tests.api.gateway.talking import Gateway
from tests.api.live import serving
from tests.conftest import Apart
from tests.fakes.callers import FakeAuthenticator, bearer
from tests.fakes.engine import FakeEngine
from tests.fakes.model_server import Reply
from tests.fakes.toolbox import TestTools
from tests.harness.stack import running_stack
from tests.waiting import until

UNLIMITED = {f"rate_limit_{tier}": "off" for tier in ("strict", "standard", "relaxed", "bulk")}


class Sandboxes:
    """A `SandboxConfigStore` in memory."""

    def __init__(self) -> None:
        self.config = SandboxConfig()
        self.works = True

    async def get(self) -> SandboxConfig:
        return self.config

    async def update(self, changes: Mapping[str, JsonValue]) -> SandboxConfig:
        try:
            self.config = SandboxConfig.model_validate({**self.config.model_dump(), **changes})
        except ValidationError as error:
            raise Invalid("memory_limit", error.errors()[0]["msg"]) from None
        return self.config

    async def status(self) -> SandboxStatus:
        backend = "bubblewrap" if self.works else "none"
        return SandboxStatus(backend=backend, available=self.works, reason="as a test says")


class Compactions:
    """A `Compaction` that knows one context."""

    def __init__(self) -> None:
        self.turns = 9
        self.asked: list[int] = []

    async def context(self, conversation_id: int) -> ContextUse:
        self.asked.append(conversation_id)
        return ContextUse(current_tokens=70, context_window=100, turns=self.turns, model="m")

    async def compact(self, conversation_id: int, principal: Principal) -> Compacted:
        self.asked.append(conversation_id)
        if self.turns <= 4:
            raise BadRequest("There are 4 user turns or fewer: nothing to compact")
        return Compacted(tokens_before=70, tokens_after=20, turns_removed=self.turns - 4)


class Desk:
    """The application in-process, on a fake engine; every call names its caller."""

    def __init__(self, core: Core, http: httpx.AsyncClient, engine: FakeEngine) -> None:
        self.core = core
        self.http = http
        self.engine = engine
        self.sandbox = Sandboxes()
        self.compaction = Compactions()
        core.sandbox_config, core.compaction = self.sandbox, self.compaction

    async def call(
        self, method: str, path: str, caller: str = "admin", **body: Any
    ) -> httpx.Response:
        return await self.http.request(method, path, json=body or None, headers=bearer(caller))

    async def ok(self, method: str, path: str, caller: str = "admin", **body: Any) -> Any:
        answer = await self.call(method, path, caller, **body)
        assert answer.status_code in {200, 201}, answer.text
        return answer.json()

    async def agent(self, name: str = "Ada") -> int:
        command = CreateAgent(name=name, provider=ProviderName.OPENAI, model="m")
        return (await self.core.agents.create(command)).id


@pytest.fixture(scope="session")
async def desk_core(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Core, FakeEngine]]:
    engine = FakeEngine()
    directory: Path = tmp_path_factory.mktemp("desk")
    settings = Settings.model_validate(
        {
            "auth_mode": AuthMode.REQUIRED,
            "database_url": postgres_url,
            "conclave_data_dir": directory,
            "encryption_key": new_key(),
            "redis_url": None,
            **UNLIMITED,
        }
    )
    toolbox = TestTools(directory / "sent.txt").registry()
    core = await build_core(settings, engine=engine, name="desk", toolbox=toolbox, environment={})
    yield core, engine
    await core.close()


@pytest.fixture
async def desk(desk_core: tuple[Core, FakeEngine], clean_database: Database) -> AsyncIterator[Desk]:
    core, engine = desk_core
    core.authenticator = FakeAuthenticator()
    forget_settings(core)
    core.profiles._known.forget()
    core.permissions._read_at = float("-inf")
    engine.reset()
    transport = httpx.ASGITransport(app=create_app(core.settings, core))
    async with httpx.AsyncClient(transport=transport, base_url="https://c.example") as http:
        yield Desk(core, http, engine)
    await until(lambda: core.errands.is_idle, what="the errands")


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> TestTools:
    directory: Path = tmp_path_factory.mktemp("tools")
    return TestTools(directory / "sent.txt")


@pytest.fixture(scope="module")
async def serving_gateway(apart: Apart, tools: TestTools) -> AsyncIterator[Gateway]:
    async with running_stack(
        apart.postgres_url, apart.temporal_address, toolbox=tools.registry()
    ) as stack:
        stack.core.authenticator = FakeAuthenticator()
        settings = stack.settings.model_copy(update={"auth_mode": AuthMode.REQUIRED, **UNLIMITED})
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

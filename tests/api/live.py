"""The real application on a real socket: streams are buffered by in-process transports."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text

from api.admission import RECHECK_SECONDS
from api.app import create_app
from conclave.adapters.bus.postgres import DELTAS_CHANNEL
from conclave.container import Core, build_core
from conclave.ports.identity import Authenticator
from conclave.settings import AuthMode, Settings
from schema.domain.inbox import InboxItem
from schema.payloads.approvals import ApprovalInput
from schema.payloads.checkout import CheckoutInput, RemovalInput
from schema.payloads.conversations import AdvanceInput, AdvanceResult, ConversationState
from schema.payloads.pipelines import PipelineState
from schema.payloads.tasks import TaskInput
from tests.fakes.triggers import FakeTriggerEngine
from tests.waiting import until


class NoEngine:
    """A workflow engine for tests in which nothing runs."""

    async def start_conversation(self, state: ConversationState) -> None:
        raise AssertionError("nothing should run")

    async def wake_conversation(self, state: ConversationState) -> None:
        """Ending a conversation wakes it; there is nothing to wake."""

    async def advance(
        self, state: ConversationState, message: AdvanceInput, *, started: bool
    ) -> AdvanceResult:
        raise AssertionError("nothing should run")

    async def start_approval(self, asked: ApprovalInput) -> None:
        raise AssertionError("nothing should run")

    async def wake_approval(self, approval_id: int) -> None:
        """There is nothing to wake."""

    async def start_checkout(self, asked: CheckoutInput) -> None:
        raise AssertionError("nothing should run")

    async def cancel_checkout(self, asked: CheckoutInput) -> None:
        raise AssertionError("nothing should run")

    async def start_removal(self, asked: RemovalInput) -> None:
        raise AssertionError("nothing should run")

    async def start_task(self, asked: TaskInput, *, wake: bool) -> None:
        raise AssertionError("nothing should run")

    async def amend_task(self, task_id: int, run: int, item: InboxItem) -> None:
        raise AssertionError("nothing should run")

    async def cancel_task(self, task_id: int, run: int) -> None:
        raise AssertionError("nothing should run")

    async def start_pipeline(self, state: PipelineState) -> None:
        raise AssertionError("nothing should run")

    async def wake_pipeline(self, run_id: int) -> None:
        """There is nothing to wake."""

    @property
    def triggers(self) -> FakeTriggerEngine:
        return FakeTriggerEngine()

    async def is_reachable(self) -> bool:
        return True

    async def live_workers(self) -> int:
        return 0


class QuietServer(uvicorn.Server):
    """Leaves the signals to pytest."""

    @contextmanager
    def capture_signals(self) -> Any:
        yield


class Live:
    """A running server and the core behind it."""

    def __init__(self, core: Core, server: QuietServer, app: FastAPI, port: int) -> None:
        self.core = core
        self.server = server
        self.http = f"http://127.0.0.1:{port}"
        self.ws = f"ws://127.0.0.1:{port}"
        self.app = app


@asynccontextmanager
async def live_api(
    postgres_url: str,
    *,
    auth_mode: AuthMode = AuthMode.LOCAL,
    authenticator: Authenticator | None = None,
    recheck_seconds: float = RECHECK_SECONDS,
) -> AsyncGenerator[Live]:
    settings = Settings(
        auth_mode=auth_mode,
        database_url=postgres_url,
        redis_url=None,
        jwt_secret=SecretStr("s" * 32),
    )
    name = f"api under test {uuid.uuid4().hex[:8]}"
    core = await build_core(settings, engine=NoEngine(), name=name)
    core.authenticator = authenticator or core.authenticator
    async with serving(core, settings, recheck_seconds=recheck_seconds) as live:
        await until(lambda: _listens(core, name), what="the server to listen for news")
        yield live
    await core.close()


@asynccontextmanager
async def serving(
    core: Core, settings: Settings, *, recheck_seconds: float = RECHECK_SECONDS
) -> AsyncGenerator[Live]:
    """Serve a core that somebody else closes."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        settings = settings.model_copy(update={"api_port": port})
        app = create_app(settings, core, recheck_seconds=recheck_seconds)
        config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5)
        server = QuietServer(config)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        await until(lambda: server.started or task.done(), what="the server to start")
        yield Live(core, server, app, port)
        server.should_exit = True
        await task


async def _listens(core: Core, name: str) -> bool:
    """Whether text that is published now would be heard: nobody keeps it for later."""
    async with core.db.transaction() as tx:
        found = await tx.conn.execute(
            text(
                "SELECT FROM pg_stat_activity WHERE application_name = :name AND state = 'idle'"
                " AND query = :query AND datname = current_database()"
            ),
            {"name": f"{name} listener", "query": f"LISTEN {DELTAS_CHANNEL}"},
        )
        return found.first() is not None


class Told:
    """One server-sent event, or a comment."""

    def __init__(self, block: str) -> None:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        self.id = fields.get("id")
        self.event = fields.get("event", "")
        self.body: dict[str, Any] = json.loads(fields.get("data", "{}"))

    @property
    def data(self) -> dict[str, Any]:
        return self.body["data"]


class EventSource:
    """Reads a stream of server-sent events."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._blocks = self._read()

    async def _read(self) -> AsyncIterator[Told]:
        rest = ""
        async for chunk in self.response.aiter_text():
            *blocks, rest = (rest + chunk).split("\n\n")
            for block in blocks:
                if "event: " in block:
                    yield Told(block)

    async def next(self, timeout: float = 10) -> Told:
        async with asyncio.timeout(timeout):
            return await anext(self._blocks)

    async def rest(self, timeout: float = 10) -> list[Told]:
        """Return what comes until the server ends the stream."""
        async with asyncio.timeout(timeout):
            return [told async for told in self._blocks]


@asynccontextmanager
async def event_source(url: str, **headers: str) -> AsyncGenerator[EventSource]:
    async with (
        httpx.AsyncClient(timeout=15) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        assert response.status_code == 200, await response.aread()
        yield EventSource(response)

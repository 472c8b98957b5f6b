"""A core with keys, fake desks and a fake engine, and callers of its API."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from api.app import create_app
from conclave.container import Core, build_core
from conclave.crypto import new_key
from conclave.settings import Settings
from conclave.triggers.signatures import sign
from tests.fakes.callers import FakeAuthenticator, bearer
from tests.fakes.engine import FakeEngine
from tests.fakes.limits import Uncounted
from tests.fakes.triggers import FakeNotifier, FakePipelines, FakeTasks, FakeTriggerEngine
from tests.waiting import until

PATH = "/api/v1/triggers"
TASK: dict[str, Any] = {"type": "create_task", "config": {"title": "Look at {{event.title}}"}}


@dataclass
class Site:
    """What a test of triggers works with; `http` is an administrator's."""

    core: Core
    http: httpx.AsyncClient
    engine: FakeTriggerEngine
    tasks: FakeTasks
    pipelines: FakePipelines
    notifier: FakeNotifier

    async def make(self, kind: str, config: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """Make a trigger."""
        body = {"name": "t", "type": kind, "config": config, "action": TASK, **fields}
        answer = await self.http.post(PATH, json=body)
        assert answer.status_code == 201, answer.text
        await self.idle()
        return answer.json()

    async def get(self, trigger_id: int) -> dict[str, Any]:
        answer = await self.http.get(f"{PATH}/{trigger_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def idle(self) -> None:
        """Wait until what is owed after a commit was told."""
        await until(lambda: self.core.errands.is_idle, what="the errands")

    async def agent(self) -> int:
        body = {"name": "Ada", "provider": "openai", "model": "gpt-4o-mini"}
        return (await self.http.post("/agents", json=body)).json()["id"]


@asynccontextmanager
async def running_site(settings: Settings) -> AsyncGenerator[Site]:
    """Build it over an empty database."""
    keyed = Settings.model_validate({**settings.model_dump(), "encryption_key": new_key()})
    engine = FakeEngine()
    core = await build_core(keyed, engine=engine, environment={})
    core.authenticator = FakeAuthenticator()
    tasks, pipelines, notifier = FakeTasks(), FakePipelines(), FakeNotifier()
    desks = core.workforce.triggers.desks
    desks.tasks, desks.pipelines, desks.catalogue = tasks, pipelines, pipelines
    desks.notifier = notifier
    app = create_app(keyed, core, limiter=Uncounted())
    transport = httpx.ASGITransport(app=app)
    try:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8000", headers=bearer("admin")
        ) as http:
            yield Site(core, http, engine.triggers, tasks, pipelines, notifier)
    finally:
        await until(lambda: core.errands.is_idle, what="the errands")
        await core.close()


def signed(
    secret: str, body: bytes, message_id: str = "msg_1", *, at: float | None = None
) -> dict[str, str]:
    """Return the headers of Standard Webhooks."""
    moment = int(time.time() if at is None else at)
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(moment),
        "webhook-signature": sign(secret, message_id, moment, body),
    }


def hub_signed(secret: str, body: bytes, **headers: str) -> dict[str, str]:
    """Return the header of GitHub's way."""
    mac = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"x-hub-signature-256": f"sha256={mac}", **headers}


def packed(value: object) -> bytes:
    return json.dumps(value).encode()

"""Triggers on a real Temporal, with a worker of the test's own."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from temporalio.client import Client

from conclave.container import build_core, temporal_client
from conclave.crypto import new_key
from conclave.settings import Settings
from tests.fakes.engine import FakeEngine
from tests.fakes.git_server import LoopbackGuard
from tests.fakes.receiver import Receiver
from tests.fakes.triggers import FakeNotifier, FakePipelines, FakeTasks
from tests.harness.triggers import Triggers
from tests.waiting import until
from worker.main import build_worker
from worker.parts import WorkerParts, build_worker_parts
from workflows.engine import TemporalEngine


@dataclass
class Shop(Triggers):
    """What a test works with; `engine` of the base is not used."""

    settings: Settings
    client: Client
    parts: WorkerParts
    receiver: Receiver

    def worker(self) -> AbstractAsyncContextManager[None]:
        """Make a worker, which is not running yet."""
        return build_worker(self.settings, self.client, self.parts)


@asynccontextmanager
async def running_shop(
    postgres_url: str, temporal_address: str, directory: Path
) -> AsyncGenerator[Shop]:
    """Build core, parts and receiver; the worker is started by the test.

    Ids begin where no workflow of the session's Temporal has been: an id runs once for ever.
    """
    settings = Settings.model_validate(
        {
            "database_url": postgres_url,
            "temporal_address": temporal_address,
            "encryption_key": new_key(),
            "conclave_data_dir": directory / "data",
            "redis_url": None,
        }
    )
    client = await temporal_client(settings)
    core = await build_core(
        settings,
        engine=TemporalEngine(client),
        name="triggers",
        environment={},
        guard=LoopbackGuard(),
    )
    start = secrets.randbelow(10**9) + 1000
    async with core.db.transaction() as tx:
        await tx.conn.execute(text(f"ALTER TABLE triggers ALTER COLUMN id RESTART WITH {start}"))
    desks, tasks, pipelines, notifier = (
        core.workforce.triggers.desks,
        FakeTasks(),
        FakePipelines(),
        FakeNotifier(),
    )
    desks.tasks, desks.pipelines, desks.catalogue = tasks, pipelines, pipelines
    desks.notifier = notifier
    parts = build_worker_parts(core)
    with Receiver() as receiver:
        try:
            yield Shop(
                core=core,
                engine=FakeEngine(),
                tasks=tasks,
                pipelines=pipelines,
                notifier=notifier,
                consumer=parts.consumer,
                settings=settings,
                client=client,
                parts=parts,
                receiver=receiver,
            )
        finally:
            await until(lambda: core.errands.is_idle, what="the errands")
            await core.close()

"""Chats that wait for a verdict, many of them: PostgreSQL, Temporal and a worker as processes.

What they cost is measured from outside: the worker's memory, the statements PostgreSQL runs, the
requests Temporal serves. Entered a second time on the same directory it goes on with the same data.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from sqlalchemy import text
from temporalio.client import Client

from conclave.agents.commands import CreateAgent
from conclave.approvals.commands import ApprovalFilter, Decide
from conclave.container import Core, build_core, temporal_client
from conclave.runtime import migrations
from conclave.runtime.launch import bound_to_us
from conclave.settings import Settings
from schema.domain.approvals import Approval
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.permissions import PermissionMode
from schema.domain.providers import ProviderName
from tests.chaos.tools.toolbox import Outside
from tests.fakes.model_server import Behaviour, ModelServer, Received, Reply
from tests.harness.chats import approval_runs, open_chat, say, set_mode
from tests.harness.servers import free_port, running_postgres, running_temporal
from tests.waiting import until
from workflows.engine import TemporalEngine

_ROOT = Path(__file__).parents[2]
_AT_ONCE = 16
_START_SECONDS = 90.0
_LOOKS = 3
_PAGE = 500
_REQUESTS = re.compile(r"^service_requests(?:_total)?\{([^}]*)\} ([0-9.e+]+)$", re.MULTILINE)
_POLL = re.compile(r'operation="Poll|operation="GetSystemInfo|operation="ShutdownWorker')


@dataclass(frozen=True)
class Rates:
    """What happens in a second while nobody asks for anything."""

    transactions: float
    """That PostgreSQL committed or rolled back."""
    requests: float
    """That clients and workers sent to Temporal, long polls aside."""


@dataclass
class WaitingChats:
    """What a measurement works with."""

    core: Core
    client: Client
    outside: Outside
    worker: psutil.Process
    metrics_port: int

    async def open(self, number: int) -> None:
        """Open chats whose model asks for a call that needs a yes; return once all wait."""
        before = await self.waiting()
        agent = await self.core.agents.create(
            CreateAgent(name="Ada", provider=ProviderName.OPENAI, model="gpt-4o-mini")
        )
        for opened in range(0, number, _AT_ONCE):
            wanted = min(_AT_ONCE, number - opened)
            await asyncio.gather(*(self._open(agent.id) for _ in range(wanted)))
            await until(
                lambda count=before + opened + wanted: self._are_waiting(count),
                timeout=120,
                every=0.1,
                what=f"{before + opened + wanted} approvals",
            )
        page, _ = await self._listed(number)
        for approval in page:
            await approval_runs(self.client, approval.id)

    async def _open(self, agent_id: int) -> None:
        chat = await open_chat(self.core, agent_id)
        await say(self.core, chat.id, f"please send {chat.id}")

    async def _are_waiting(self, count: int) -> bool:
        return await self.waiting() == count

    async def waiting(self) -> int:
        """Count the approvals that wait."""
        return (await self._listed(1))[1]

    async def decide_all(self) -> int:
        """Say yes to everything; return once every turn is over. Returns how many there were."""
        decided = 0
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(approval: Approval) -> None:
            async with gate:
                command = Decide(approve=True)
                await self.core.approvals.decide(approval.id, command, LOCAL_PRINCIPAL)

        while True:
            page, _ = await self._listed(_PAGE)
            if not page:
                break
            await asyncio.gather(*(one(approval) for approval in page))
            decided += len(page)
        await until(
            self._all_over, timeout=60 + decided, every=0.5, what=f"the end of {decided} turns"
        )
        return decided

    def memory_mb(self) -> float:
        """Return the worker's resident memory."""
        return self.worker.memory_info().rss / 1e6

    async def idle_rates(self, seconds: float) -> Rates:
        """Watch three times for so long; return the least that was seen of each.

        Upkeep once a minute, autovacuum and what PostgreSQL reports late of earlier work fall
        into one look or another. What goes on for each chat is in all of them.
        """
        looks = [await self._rates(seconds) for _ in range(_LOOKS)]
        return Rates(min(one.transactions for one in looks), min(one.requests for one in looks))

    async def _rates(self, seconds: float) -> Rates:
        """Watch for a while."""
        transactions, requests = await self._counted()
        began = time.monotonic()
        await until(
            lambda: time.monotonic() - began >= seconds, timeout=seconds * 2 + 10, every=0.5
        )
        later, then = await self._counted()
        passed = time.monotonic() - began
        return Rates((later - transactions) / passed, (then - requests) / passed)

    async def quiet(self, most: float) -> None:
        """Wait until at most so many requests a second are sent: what was asked for is done."""

        async def is_quiet() -> bool:
            return (await self._rates(2)).requests <= most

        await until(is_quiet, timeout=120, what="quiet")

    async def _counted(self) -> tuple[float, float]:
        async with self.core.db.transaction() as tx:
            transactions = await tx.conn.scalar(
                text("SELECT sum(xact_commit + xact_rollback)::float8 FROM pg_stat_database")
            )
        async with httpx.AsyncClient() as client:
            page = await client.get(f"http://127.0.0.1:{self.metrics_port}/metrics")
        requests = sum(
            float(value)
            for labels, value in _REQUESTS.findall(page.text)
            if 'service_name="frontend"' in labels and not _POLL.search(labels)
        )
        return transactions or 0.0, requests

    async def _listed(self, limit: int) -> tuple[list[Approval], int]:
        found, total = await self.core.approvals.list(ApprovalFilter(), LOCAL_PRINCIPAL, limit, 0)
        return [*found], total

    async def _all_over(self) -> bool:
        async with self.core.db.transaction() as tx:
            open_ = await tx.conn.scalar(
                text(
                    "SELECT (SELECT count(*) FROM inbox WHERE status <> 'done')"
                    " + (SELECT count(*) FROM outbox)"
                )
            )
        return not open_


def _insist(received: Received) -> Behaviour:
    """Ask for one line to be sent, by the chat's own text; then talk."""
    if received.body["messages"][-1]["role"] == "tool":
        return Reply(text="It is sent.")
    return Reply(tool_calls=[("send", {"text": received.last_user_text.split()[-1]})])


@asynccontextmanager
async def waiting_chats(root: Path, key: str) -> AsyncGenerator[WaitingChats]:
    """Run everything until the block ends; then the worker is killed, the servers stopped.

    `root` must be passable by PostgreSQL's user, with a short path.
    """
    metrics_port = free_port()
    async with (
        ModelServer(responder=_insist, keep=False) as model,
        running_postgres(root / "postgres") as postgres,
        running_temporal(root, metrics_port=metrics_port) as temporal,
    ):
        await asyncio.to_thread(migrations.upgrade, postgres.url())
        environment = {
            "DATABASE_URL": postgres.url(),
            "TEMPORAL_ADDRESS": temporal.address,
            "ENCRYPTION_KEY": key,
            "OPENAI_BASE_URL": model.base_url,
            "OPENAI_API_KEY": "sk-waiting-key-123456",
            "CONCLAVE_DATA_DIR": str(root / "data"),
            "AUTH_MODE": "local",
        }
        settings = Settings.model_validate({key.lower(): environment[key] for key in environment})
        outside = Outside(root, longest_seconds=0.0)
        client = await temporal_client(settings)
        core = await build_core(
            settings,
            engine=TemporalEngine(client),
            name="driver",
            environment=environment,
            toolbox=outside.toolbox(),
        )
        process = _start_worker(root, environment)
        try:
            await set_mode(core, PermissionMode.INTERACTIVE)
            ready = root / f"ready-{process.pid}"
            await until(ready.exists, timeout=_START_SECONDS, what="the worker")
            yield WaitingChats(core, client, outside, psutil.Process(process.pid), metrics_port)
        finally:
            process.kill()
            process.wait(10)
            await core.close()


def _start_worker(root: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    own = {"CHAOS_DIRECTORY": str(root), "CHAOS_SECONDS": "0", "PYTHONPATH": str(_ROOT)}
    with (root / "worker.log").open("ab") as log:
        command = [sys.executable, "-m", "tests.chaos.tools.workers"]
        return subprocess.Popen(
            bound_to_us(command, death_signal=signal.SIGKILL),
            cwd=_ROOT,
            env={**os.environ, **environment, **own},
            stdout=log,
            stderr=log,
        )

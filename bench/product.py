"""Starts what is measured: the product under its supervisor, an instant model, the raw worker."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
from pydantic import BaseModel
from temporalio.client import Client

from conclave.container import temporal_client
from conclave.runtime.files import installation_secrets
from conclave.runtime.plan import Layout
from conclave.runtime.postgres import Postgres
from conclave.settings import Settings

ROOT = Path(__file__).parent.parent
_START_SECONDS = 90


class _Ready(BaseModel):
    """The ready file, as far as it is needed here."""

    api: str
    temporal: str
    pids: dict[str, int]


@dataclass
class Bench:
    """What the measurements use."""

    api: str
    data_dir: Path
    model_url: str
    ready_file: Path
    settings: Settings
    environment: dict[str, str]
    client: Client
    raw_worker: int
    """The raw worker's process."""
    http: aiohttp.ClientSession

    def pids(self) -> dict[str, int]:
        """Return the product's processes."""
        return _Ready.model_validate_json(self.ready_file.read_bytes()).pids

    @property
    def token(self) -> str:
        """The gateway token, which is an administrator's."""
        token = self.settings.gateway_token
        assert token is not None
        return token.get_secret_value()

    async def post(
        self, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, object]:
        """POST and return the answer; any error ends the bench."""
        async with self.http.post(self.api + path, json=body, headers=headers) as response:
            answer = await response.json()
            if response.status >= 300:
                raise RuntimeError(f"POST {path}: {response.status} {answer}")
            return answer

    def memory_mb(self, name: str) -> float:
        """Return the resident memory of one process, in MB."""
        return psutil.Process(self.pids()[name]).memory_info().rss / 1e6


async def _wait_for(path: Path, what: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not start; see {log}")
        await asyncio.sleep(0.05)


def _spawn(command: list[str], log: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    with log.open("ab") as sink:
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=sink, stderr=sink)


@asynccontextmanager
async def running(*, model_delay: float = 0.0) -> AsyncGenerator[Bench]:
    """Run everything in a new data directory until the block ends."""
    directory = Path(tempfile.mkdtemp(prefix="conclave-bench-"))
    os.chmod(directory, 0o711)  # PostgreSQL runs as another user than root
    children: list[subprocess.Popen[bytes]] = []
    try:
        async with _started(directory, children, model_delay) as bench:
            yield bench
    finally:
        for child in reversed(children):
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()


@asynccontextmanager
async def _started(
    directory: Path, children: list[subprocess.Popen[bytes]], model_delay: float
) -> AsyncGenerator[Bench]:
    model_port = free_port()
    model_url = f"http://127.0.0.1:{model_port}/v1"
    fake = [sys.executable, "-m", "tests.fakes.model_server", "--port", str(model_port)]
    fake += ["--delay", str(model_delay), "--stamp"]
    children.append(_spawn(fake, directory / "model.log", dict(os.environ)))
    ready = directory / "ready.json"
    data_dir = directory / "data"
    up = [sys.executable, "-m", "conclave.cli", "up", "--data-dir", str(data_dir)]
    up += ["--auto-ports", "--ready-file", str(ready)]
    up += ["--env", f"OPENAI_BASE_URL={model_url}", "--env", "OPENAI_API_KEY=sk-bench-key-1234"]
    children.append(_spawn(up, directory / "up.log", dict(os.environ)))
    await _wait_for(ready, "the product", directory / "up.log")
    answer = _Ready.model_validate_json(ready.read_bytes())
    environment = {
        "DATABASE_URL": Postgres.at(data_dir / "postgres").url(),
        "TEMPORAL_ADDRESS": answer.temporal,
        **installation_secrets(Layout(data_dir)),
        "CONCLAVE_DATA_DIR": str(data_dir),
        "OPENAI_BASE_URL": model_url,
        "CONCLAVE_READY_FILE": str(directory / "raw.ready"),
    }
    raw = [sys.executable, "-m", "bench.raw"]
    children.append(_spawn(raw, directory / "raw.log", {**os.environ, **environment}))
    await _wait_for(directory / "raw.ready", "the raw worker", directory / "raw.log")
    settings = Settings.model_validate({k.lower(): v for k, v in environment.items()})
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120)
    ) as http:
        yield Bench(
            api=answer.api.rstrip("/"),
            data_dir=data_dir,
            model_url=model_url,
            ready_file=ready,
            settings=settings,
            environment=environment,
            client=await temporal_client(settings),
            raw_worker=children[-1].pid,
            http=http,
        )


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

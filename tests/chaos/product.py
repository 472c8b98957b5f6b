"""A real `conclave up` on a data directory, started again after its supervisor is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from conclave.runtime.postgres import Postgres
from tests.harness.servers import free_port
from tests.harness.up import RunningUp, running_up

_START_SECONDS = 240.0


class Product:
    """The stack under test: its processes, its addresses, its database."""

    def __init__(
        self,
        root: Path,
        *,
        model_url: str,
        workers: int,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        self.data_dir = root / "data"
        self.workers = [f"worker-{number}" for number in range(1, workers + 1)]
        self.children = ["api", "postgres", "temporal", *self.workers]
        self.api = ""
        self.temporal = ""
        ports = zip(("api", "temporal", "ui"), (free_port() for _ in range(3)), strict=True)
        environment = {
            "OPENAI_BASE_URL": model_url,
            "OPENAI_API_KEY": "sk-chaos-key-123456",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            **(extra or {}),
        }
        self._command = [
            *("-m", "conclave.cli", "up", "--auto-ports"),
            *("--data-dir", str(self.data_dir), "--ready-file", str(self.ready_file)),
            *("--workers", str(workers)),
            *(part for name, port in ports for part in (f"--{name}-port", str(port))),
            *(part for key, value in environment.items() for part in ("--env", f"{key}={value}")),
        ]
        self._stack = AsyncExitStack()
        self._up: RunningUp | None = None

    @property
    def ready_file(self) -> Path:
        """Where the supervisor says that all is up."""
        return self.root / "ready.json"

    @property
    def console(self) -> Path:
        """What the supervisors printed."""
        return self.root / "console"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def start(self) -> None:
        """Start the supervisor and wait until everything answers."""
        self._up = await self._stack.enter_async_context(
            running_up(self._command, ready_file=self.ready_file, console=self.console)
        )
        await self._up.is_up(timeout=_START_SECONDS)
        content = self._up.ready()
        assert content is not None
        self.api, self.temporal = str(content["api"]), str(content["temporal"])

    @property
    def up(self) -> RunningUp:
        """The supervisor that runs."""
        assert self._up is not None
        return self._up

    def pids(self) -> dict[str, int]:
        """Return the processes by name, the supervisor among them."""
        return self.up.pids()

    async def restart(self) -> None:
        """Start again on the same data after the supervisor was killed."""
        self.up.process.wait(10)
        await self.start()

    async def rows(self, query: str, *parameters: object) -> list[DictRow]:
        """Ask the database itself. Raises psycopg.OperationalError while it is away."""
        url = Postgres.at(self.data_dir / "postgres").url()
        connection = await psycopg.AsyncConnection[DictRow].connect(
            url, row_factory=dict_row, connect_timeout=5
        )
        async with connection:
            cursor = await connection.execute(sql.SQL(query), parameters)  # pyright: ignore[reportArgumentType]  # our own texts, not all literal
            return await cursor.fetchall()


def kill(pid: int) -> None:
    """End a process at once, as a crash would."""
    os.kill(pid, signal.SIGKILL)

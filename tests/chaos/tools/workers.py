"""Worker processes with the tools of a chaos run, killed and started again.

Each is what `conclave worker` runs, with another toolbox; forked from a process that has loaded
everything, so that 200 of them take minutes. `python -m tests.chaos.tools.workers` runs one alone,
with the environment of a worker, CHAOS_DIRECTORY and CHAOS_SECONDS (how long its tools take).
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Self

from conclave.container import build_core, temporal_client
from conclave.logging import configure_logging
from conclave.settings import LogFormat, Settings
from tests.chaos.tools.toolbox import Outside
from tests.waiting import until
from worker.main import build_worker
from worker.parts import build_worker_parts
from workflows.engine import TemporalEngine

_PR_SET_PDEATHSIG = 1
_START_SECONDS = 60.0


class Workers:
    """So many workers at any time; who kills one is given another."""

    def __init__(self, directory: Path, environment: Mapping[str, str], number: int) -> None:
        self._directory = directory
        self._environment = dict(environment)
        self._number = number
        self._processes: list[BaseProcess] = []
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.chaos.tools.preload"])

    async def __aenter__(self) -> Self:
        for _ in range(self._number):
            self._start()
        await until(
            lambda: all(self._is_ready(pid) for pid in self.pids()),
            timeout=_START_SECONDS,
            what="the workers",
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
            process.join(10)

    def pids(self) -> list[int]:
        """Return the processes that live."""
        return [process.pid for process in self._processes if process.pid is not None]

    def kill(self, pid: int) -> None:
        """End one as a crash would, and start another in its place."""
        [victim] = [process for process in self._processes if process.pid == pid]
        victim.kill()
        victim.join(10)
        self._processes.remove(victim)
        self._start()

    def _start(self) -> None:
        process = self._context.Process(
            target=_work, args=(str(self._directory), self._environment), daemon=True
        )
        process.start()
        self._processes.append(process)

    def _is_ready(self, pid: int) -> bool:
        return (self._directory / f"ready-{pid}").exists()


def _work(directory: str, environment: dict[str, str]) -> None:
    """Be a worker until killed, and no longer than the process that forks them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.environ.update(environment)
    asyncio.run(_run(Outside(Path(directory))))


async def _run(outside: Outside) -> None:
    settings = Settings()
    configure_logging("ERROR", LogFormat.JSON)
    client = await temporal_client(settings)
    core = await build_core(
        settings,
        engine=TemporalEngine(client),
        name="chaos worker",
        toolbox=outside.toolbox(),
    )
    parts = build_worker_parts(core)
    parts.load()
    async with build_worker(settings, client, parts):
        (outside.directory / f"ready-{os.getpid()}").touch()
        await parts.relay.run()


if __name__ == "__main__":
    given = os.environ
    asyncio.run(_run(Outside(Path(given["CHAOS_DIRECTORY"]), float(given["CHAOS_SECONDS"]))))

"""A running `conclave up` (or something like it) as tests handle it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.waiting import until

_ROOT = Path(__file__).parents[2]


@dataclass
class RunningUp:
    """The supervisor's process, its ready file and its console."""

    process: subprocess.Popen[bytes]
    ready_file: Path
    console: Path

    def ready(self) -> dict[str, object] | None:
        """Return what the ready file says, None without one."""
        try:
            content: dict[str, object] = json.loads(self.ready_file.read_text())
        except FileNotFoundError:
            return None
        return content

    def pids(self) -> dict[str, int]:
        """Return the processes by name."""
        content = self.ready()
        assert content is not None
        pids = content["pids"]
        assert isinstance(pids, dict)
        return {str(name): int(pid) for name, pid in pids.items()}

    def said(self) -> str:
        """Return the console so far."""
        return self.console.read_text()

    async def is_up(self, timeout: float = 60) -> dict[str, int]:
        """Wait for the ready file; return the processes."""

        def look() -> bool:
            assert self.process.poll() is None, self.said()
            return self.ready() is not None and self.pids()["supervisor"] == self.process.pid

        await until(look, timeout=timeout, what="the ready file")
        return self.pids()

    async def has_replaced(self, *names: str, old: dict[str, int], timeout: float = 60) -> None:
        """Wait until these children are new ones, and ready."""

        def look() -> bool:
            pids = self.pids() if self.ready() is not None else {}
            return all(pids.get(name, old[name]) != old[name] for name in names)

        await until(look, timeout=timeout, what=f"new {names}")

    async def ends(self, timeout: float = 60) -> int:
        """Wait for the supervisor to end; return its exit code."""
        await until(lambda: self.process.poll() is not None, timeout=timeout, what="the end")
        return self.process.wait()


@asynccontextmanager
async def running_up(
    command: Sequence[str], *, ready_file: Path, console: Path
) -> AsyncGenerator[RunningUp]:
    """Start it; at the end of the block stop it, whatever happened, and all it started."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    with console.open("ab") as sink:
        process = await asyncio.to_thread(
            lambda: subprocess.Popen(
                [sys.executable, *command],
                stdout=sink,
                stderr=sink,
                env=environment,
                start_new_session=True,
            )
        )
    running = RunningUp(process, ready_file, console)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                await running.ends(timeout=60)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait(5)


async def all_gone(pids: Sequence[int], timeout: float = 10) -> None:
    """Wait until none of the processes exists any more, not even as a corpse."""
    await until(lambda: not any(map(psutil.pid_exists, pids)), timeout=timeout, what="their end")

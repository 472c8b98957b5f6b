"""One supervisor a data directory, and nothing left of the one before."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import AsyncGenerator, Generator, Mapping
from pathlib import Path

import psutil

from conclave.runtime.errors import DataDirInUse
from conclave.runtime.files import write_atomically
from conclave.runtime.plan import Layout

_LOCK_PATIENCE_SECONDS = 3.0
_DYING_PATIENCE_SECONDS = 6.0


@contextlib.contextmanager
def _open_lock(path: Path) -> Generator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.asynccontextmanager
async def sole_supervisor(layout: Layout) -> AsyncGenerator[None]:
    """Hold the data directory. Raises `DataDirInUse`.

    The kernel lets go of the lock when the holder dies, however it dies.
    """
    with _open_lock(layout.lock) as descriptor:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LOCK_PATIENCE_SECONDS
        while not _try_lock(descriptor):
            if loop.time() > deadline:
                who = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                raise DataDirInUse(
                    f"Conclave already runs on {layout.root} (process {who}). "
                    "Stop it, or choose another --data-dir."
                )
            await asyncio.sleep(0.1)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remember_children(layout: Layout, pids: Mapping[str, int]) -> None:
    """Note the processes with their start times: a pid alone may be somebody else's later."""
    noted: dict[str, tuple[int, float]] = {}
    for name, pid in pids.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            noted[name] = (pid, psutil.Process(pid).create_time())
    write_atomically(layout.children, json.dumps(noted))


def outlast_children(layout: Layout) -> list[str]:
    """Wait for a dead supervisor's children to be gone, killing what stays. Blocking.

    Returns the names of those that had to be killed.
    """
    try:
        noted: dict[str, tuple[int, float]] = json.loads(layout.children.read_text())
    except (OSError, ValueError):
        return []
    alive: dict[int, tuple[str, psutil.Process]] = {}
    for name, (pid, created) in noted.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if abs(process.create_time() - created) < 0.01:
                alive[pid] = (name, process)
    _, survivors = psutil.wait_procs(
        [process for _, process in alive.values()], timeout=_DYING_PATIENCE_SECONDS
    )
    for process in survivors:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(survivors, timeout=5)
    layout.children.unlink(missing_ok=True)
    return [alive[process.pid][0] for process in survivors]

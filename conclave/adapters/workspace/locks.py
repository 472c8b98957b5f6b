"""Locks on a workspace's files that hold between processes, and end with whoever holds them."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from conclave.adapters.workspace.errors import FileNotThere, WorkspaceBusy

LOCK_SECONDS = 30.0
_POLL_SECONDS = 0.05


async def acquire(descriptor: int, how: int, *, seconds: float = LOCK_SECONDS) -> None:
    """Take a lock (`fcntl.LOCK_EX`, `LOCK_SH`). Raises TimeoutError after `seconds`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if loop.time() >= deadline:
                raise TimeoutError from None
            await asyncio.sleep(_POLL_SECONDS)
        else:
            return


class TreeLock:
    """Keeps git and commands apart.

    git looks for links and then opens by path, so a command that swaps directories for links
    meanwhile could lead it out of the workspace. Any number of commands may run at once, and any
    one run of git that opens files while none does.
    """

    def __init__(self, home: Path, *, seconds: float = LOCK_SECONDS) -> None:
        self._path = home / "tree.lock"
        self._seconds = seconds

    @asynccontextmanager
    async def moving(self) -> AsyncGenerator[int]:
        """Hold git off while commands may change the files. Raises `WorkspaceBusy`."""
        async with self._held(fcntl.LOCK_SH, "Git is at work on the files just now") as held:
            yield held

    @asynccontextmanager
    async def still(self) -> AsyncGenerator[int]:
        """Hold commands off while git opens files. Raises `WorkspaceBusy`.

        Give the descriptor to git: one that outlives us keeps the lock.
        """
        async with self._held(fcntl.LOCK_EX, "A command is running in the workspace") as held:
            yield held

    @asynccontextmanager
    async def _held(self, how: int, otherwise: str) -> AsyncGenerator[int]:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise FileNotThere("The workspace has no files yet") from None
        try:
            try:
                await acquire(descriptor, how, seconds=self._seconds)
            except TimeoutError:
                raise WorkspaceBusy(f"{otherwise}. Try again later") from None
            yield descriptor
        finally:
            os.close(descriptor)

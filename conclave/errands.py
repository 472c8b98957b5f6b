"""What is done after a commit and nobody waits for: telling the engine, striking what is told.

An errand may be lost with its process: what it owes stands in the outbox, and the relay repeats it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

_PATIENCE_SECONDS = 5.0


class Errands:
    """The errands of one process that are under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, errand: Coroutine[object, object, None]) -> None:
        """Begin an errand. It reports its own failures: nobody hears what it raises."""
        task = asyncio.create_task(errand)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._tasks

    async def finish(self) -> None:
        """Wait for what is under way, 5 s at most, and give up the rest."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_PATIENCE_SECONDS)
            for task in late:
                task.cancel()

"""Counts of calls that changed no state, stored together once a second.

A process that is killed loses the counts of its last second; nothing is decided by them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from conclave.breakers.repository import Tally
from conclave.errors import ConclaveError
from conclave.logging import get_logger

EVERY_SECONDS = 1.0
_log = get_logger(__name__)


class Counting:
    """The counts of one process that are not in the record yet."""

    def __init__(self, store: Callable[[Mapping[str, Tally]], Awaitable[None]]) -> None:
        self._store = store
        self._tallies: dict[str, Tally] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._storing: asyncio.Task[None] | None = None

    def add(self, name: str, *, successes: int = 0, failures: int = 0) -> None:
        """Count, and store it within a second or so."""
        self._merge(name, Tally(successes=successes, failures=failures))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY_SECONDS, self._begin)

    async def flush(self) -> None:
        """Store what was counted; keep it where that fails."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        taken, self._tallies = self._tallies, {}
        if not taken:
            return
        try:
            await self._store(taken)
        except ConclaveError as error:
            _log.warning("calls of circuits are not counted yet", error=error.message)
            for name, tally in taken.items():
                self._merge(name, tally)

    async def close(self) -> None:
        """Store what is left."""
        if self._storing is not None:
            await self._storing
        await self.flush()

    def _begin(self) -> None:
        self._timer = None
        self._storing = asyncio.create_task(self.flush())

    def _merge(self, name: str, tally: Tally) -> None:
        known = self._tallies.get(name, Tally())
        self._tallies[name] = Tally(
            successes=known.successes + tally.successes, failures=known.failures + tally.failures
        )

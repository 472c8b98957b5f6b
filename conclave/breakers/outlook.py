"""What one process believes of the breakers it uses, so that admission costs no query.

Read from the record at most once a second, all names in use at once; what this process changes
itself is known at once. Another process's change of state is therefore a second old at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from conclave.breakers.repository import Glance
from conclave.db import Transaction
from schema.domain.breakers import Breaker, CircuitState

FRESH_SECONDS = 1.0
_FORGOTTEN_SECONDS = 60.0
"""A name that nobody asked about for so long is not read any more."""
Read = Callable[[Collection[str], Transaction | None], Awaitable[list[Glance]]]


@dataclass(frozen=True)
class Seen:
    """A breaker as it was last seen; moments are the process's own clock's."""

    glance: Glance
    exists: bool
    at: float
    probes_at: float
    """When a probe may be let through; infinite where it is forced open."""


class Outlook:
    """The breakers one process uses."""

    def __init__(self, read: Read, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._seen: dict[str, Seen] = {}
        self._asked: dict[str, float] = {}
        self._reading = asyncio.Lock()

    async def of(self, name: str, tx: Transaction | None) -> Seen:
        """Return a breaker, read at most a second ago, in `tx` where it must be read."""
        self._asked[name] = self._clock()
        if (seen := self._fresh(name)) is not None:
            return seen
        # Who reads has its connection already: the others may hold all there are.
        async with self._reading:
            if (seen := self._fresh(name)) is None:
                await self._refresh(tx)
                seen = self._seen[name]
            return seen

    def last(self, name: str) -> Seen | None:
        """Return a breaker as last known, however long ago that was."""
        return self._seen.get(name)

    def put(self, breaker: Breaker) -> Seen:
        """Take what this process has just read or stored."""
        opens_in = None
        if breaker.next_attempt_at is not None:
            opens_in = (breaker.next_attempt_at - breaker.read_at).total_seconds()
        glance = Glance.model_validate({**breaker.model_dump(), "opens_in": opens_in})
        seen = self._seen[breaker.name] = self._noted(glance, exists=True)
        return seen

    def forget(self) -> None:
        """Know nothing any more."""
        self._seen.clear()

    async def _refresh(self, tx: Transaction | None) -> None:
        now = self._clock()
        self._asked = {
            name: at for name, at in self._asked.items() if now - at < _FORGOTTEN_SECONDS
        }
        before = dict(self._seen)
        found = {glance.name: glance for glance in await self._read(list(self._asked), tx)}
        for name in self._asked:
            if self._seen.get(name) is before.get(name):  # else it was changed meanwhile
                exists = name in found
                self._seen[name] = self._noted(found.get(name, Glance(name=name)), exists=exists)
        self._seen = {name: self._seen[name] for name in self._asked}

    def _noted(self, glance: Glance, *, exists: bool) -> Seen:
        now = self._clock()
        waits = float("inf") if glance.forced else glance.opens_in or 0.0
        is_open = glance.state is CircuitState.OPEN
        return Seen(glance, exists, at=now, probes_at=now + waits if is_open else now)

    def _fresh(self, name: str) -> Seen | None:
        seen = self._seen.get(name)
        return seen if seen is not None and self._clock() - seen.at < FRESH_SECONDS else None

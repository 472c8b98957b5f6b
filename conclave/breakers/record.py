"""Changing a breaker's record by a step of the machine, and telling of it."""

from __future__ import annotations

from collections.abc import Callable

from conclave.breakers.errors import BreakerNotFound
from conclave.breakers.events import events_of
from conclave.breakers.outlook import Outlook
from conclave.breakers.repository import BreakerRepository
from conclave.db import Transaction
from conclave.events import EventLog
from schema.domain.breakers import Breaker

Step = Callable[[Breaker], Breaker]


class BreakerRecord:
    """Writes breakers; every change of state is one event in the same transaction."""

    def __init__(self, events: EventLog, outlook: Outlook) -> None:
        self._events = events
        self._outlook = outlook
        self._breakers = BreakerRepository()

    async def change(self, tx: Transaction, name: str, step: Step) -> None:
        """Apply a step, under the row's lock; make the breaker where it is the first."""
        before = await self._breakers.get(tx, name, lock=True)
        if before is None:
            await self._breakers.make(tx, name)
            before = await self.locked(tx, name)
        await self.store(tx, before, step(before))

    async def locked(self, tx: Transaction, name: str) -> Breaker:
        """Lock a breaker and return it. Raises `BreakerNotFound`."""
        found = await self._breakers.get(tx, name, lock=True)
        if found is None:
            raise BreakerNotFound(name)
        return found

    async def store(self, tx: Transaction, before: Breaker, after: Breaker) -> None:
        """Store a breaker that was read with its lock. Events: last in the transaction."""
        await self._breakers.store(tx, after)
        await self._events.append(tx, events_of(before, after))
        tx.after_commit.append(lambda: self._noted(after))

    def _noted(self, breaker: Breaker) -> None:
        self._outlook.put(breaker)

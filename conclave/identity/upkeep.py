"""Cleaning up what identities leave behind; a scheduled workflow calls it."""

from __future__ import annotations

from datetime import datetime, timedelta

from conclave.db import Database
from conclave.identity.clock import utc_now
from conclave.identity.upkeep_repository import UpkeepRepository, leftovers

BATCH = 1000
_ATTEMPTS_KEPT = timedelta(days=2)
"""Longer than any window or lock a policy can name."""


class IdentityUpkeep:
    """Deletes what no token and no count can need any more."""

    def __init__(self, db: Database, *, batch: int = BATCH) -> None:
        self._db = db
        self._batch = batch
        self._repository = UpkeepRepository()

    async def run(self) -> int:
        """Purge what is over by now: a `Chore`."""
        return await self.purge(utc_now())

    async def purge(self, now: datetime) -> int:
        """Delete sessions, refresh tokens, challenges and failed attempts that are over.

        Returns how many rows went. Batches of their own transactions: it may be cut and called
        again at any time, by several processes at once.
        """
        gone = 0
        for what in leftovers(now, now - _ATTEMPTS_KEPT):
            count = self._batch
            while count == self._batch:
                async with self._db.transaction() as tx:
                    count = await self._repository.delete_batch(tx, what, self._batch)
                gone += count
        return gone

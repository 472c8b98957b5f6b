"""Sealing: what is committed and waits gets its place in the chain, after the fact.

Writers never wait for this: they add a row to `audit_waiting`, and no other transaction ever
touches it until it is committed. An entry that is committed late lands in a later seal.
"""

from __future__ import annotations

from conclave.audit.repository import AuditRepository
from conclave.audit.sealing import make_seal
from conclave.crypto import Keyring
from conclave.db import Database

BATCH = 1_000


class AuditSealer:
    """A chore (`conclave.ports.engine.Chore`): may run anywhere, in several places at once."""

    def __init__(self, db: Database, keys: Keyring | None, *, batch: int = BATCH) -> None:
        self._db = db
        self._keys = keys
        self._batch = batch
        self._repository = AuditRepository()

    async def run(self) -> int:
        """Make one seal; return how many entries it covers, 0 where none waits.

        0 too while somebody else seals: what waits is theirs.
        """
        async with self._db.autocommit() as tx:
            if not await self._repository.is_any_waiting(tx):
                return 0
        async with self._db.transaction() as tx:
            if not await self._repository.try_lock(tx):
                return 0
            entries = await self._repository.take_waiting(tx, self._batch)
            if not entries:
                return 0
            previous, now = await self._repository.last_seal(tx), await self._repository.now(tx)
            await self._repository.add_seal(tx, make_seal(previous, entries, now, self._keys))
            await self._repository.strike_waiting(tx, [entry.id for entry in entries])
        return len(entries)

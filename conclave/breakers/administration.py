"""What administrators see of circuit breakers, and do with them."""

from __future__ import annotations

from collections.abc import Sequence

from conclave.auditing import AuditLog, changed
from conclave.breakers import machine
from conclave.breakers.commands import Configure
from conclave.breakers.errors import BreakerNotFound
from conclave.breakers.record import BreakerRecord, Step
from conclave.breakers.repository import BreakerRepository
from conclave.db import Database, Transaction
from schema.domain.breakers import Breaker, BreakerConfig

_TOLD = {"state", "forced", *BreakerConfig.model_fields}


class BreakerAdministration:
    """Use cases of administrators; each is one transaction and one entry of the audit log."""

    def __init__(self, db: Database, audit: AuditLog, record: BreakerRecord) -> None:
        self._db = db
        self._audit = audit
        self._record = record
        self._breakers = BreakerRepository()

    async def list(self, limit: int, offset: int) -> tuple[Sequence[Breaker], int]:
        """Return a piece of the list, newest first, and the number of all."""
        async with self._db.transaction() as tx:
            return await self._breakers.list(tx, limit, offset)

    async def get(self, name: str) -> Breaker:
        """Return one. Raises `BreakerNotFound`."""
        async with self._db.autocommit() as tx:
            found = await self._breakers.get(tx, name)
        if found is None:
            raise BreakerNotFound(name)
        return found

    async def configure(self, command: Configure) -> tuple[Breaker, bool]:
        """Make a breaker, or change the configuration of one; return whether it is new."""
        async with self._db.transaction() as tx:
            is_new = await self._breakers.make(tx, command.name)
            action = "circuit_breaker_created" if is_new else "circuit_breaker_updated"
            breaker = await self._change(
                tx, command.name, action, lambda one: machine.configured(one, command.changes)
            )
        return breaker, is_new

    async def force_open(self, name: str, reason: str | None) -> Breaker:
        """Keep it open until it is forced closed or reset. Raises `BreakerNotFound`."""
        async with self._db.transaction() as tx:
            return await self._change(
                tx,
                name,
                "circuit_breaker_forced_open",
                lambda one: machine.forced_open(one, reason),
                details=reason,
            )

    async def force_close(self, name: str) -> Breaker:
        """Go back to normal working. Raises `BreakerNotFound`."""
        async with self._db.transaction() as tx:
            return await self._change(
                tx, name, "circuit_breaker_forced_closed", machine.forced_closed
            )

    async def reset(self, name: str) -> Breaker:
        """Close it and clear every counter. Raises `BreakerNotFound`."""
        async with self._db.transaction() as tx:
            return await self._change(tx, name, "circuit_breaker_reset", machine.reset)

    async def _change(
        self,
        tx: Transaction,
        name: str,
        action: str,
        step: Step,
        *,
        details: str | None = None,
    ) -> Breaker:
        before = await self._record.locked(tx, name)
        after = step(before)
        differences = changed(
            before.model_dump(mode="json", include=_TOLD),
            after.model_dump(mode="json", include=_TOLD),
        )
        await self._audit.record(
            tx, action, "circuit_breaker", name, details=details, changes=differences
        )
        await self._record.store(tx, before, after)
        return after

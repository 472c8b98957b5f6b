"""The relay: delivers what the outbox still owes to the workflow engine.

Whoever commits a change delivers its wake-up at once; the relay is for what a crash or an outage
left. It runs in every worker and needs no leader: rows are taken with SKIP LOCKED and put off, so
a delivery that fails comes back later. Delivering twice does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from conclave.db import Database
from conclave.errors import ConclaveError, NotFound
from conclave.logging import get_logger
from conclave.mailbox import Mailbox

Deliver = Callable[[int], Awaitable[None]]
"""Delivers to one target and strikes what was owed to it. Raises `Unavailable` where it must be
tried again, `NotFound` where there is nothing to deliver to."""

_BATCH = 50
_PAUSE_SECONDS = 1.0
_log = get_logger(__name__)


class Relay:
    """Looks for owed wake-ups once a second, and goes on at once while there are more."""

    def __init__(self, db: Database, mailbox: Mailbox, targets: Mapping[str, Deliver]) -> None:
        self._db = db
        self._mailbox = mailbox
        self._targets = targets

    async def run(self) -> None:
        """Relay until cancelled."""
        while True:
            try:
                taken = await self.relay_due()
            except ConclaveError as error:
                _log.warning("outbox cannot be read", error=error.code)
                taken = 0
            if taken < _BATCH:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def relay_due(self) -> int:
        """Deliver what is due; return how many wake-ups were taken."""
        async with self._db.transaction() as tx:
            due = await self._mailbox.take_due(tx, _BATCH)
        targets = {(delivery.target_kind, delivery.target_id) for delivery in due}
        await asyncio.gather(*(self._deliver(kind, target) for kind, target in targets))
        return len(due)

    async def _deliver(self, kind: str, target: int) -> None:
        try:
            await self._targets[kind](target)
        except NotFound:
            _log.warning("outbox target is gone", kind=kind, target=target)
        except ConclaveError as error:
            _log.warning("delivery failed", kind=kind, target=target, error=error.code)

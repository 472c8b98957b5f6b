"""Wake-ups that are owed and, once they are committed, delivered at once.

A delivery may be lost with its process: the outbox row that was committed with the change is
delivered again by the relay.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from conclave.db import Transaction
from conclave.errands import Errands
from conclave.errors import ConclaveError
from conclave.logging import get_logger
from conclave.mailbox import Mailbox

Deliver = Callable[[int], Awaitable[None]]
"""Delivers to one target and strikes what was owed to it. May raise: the relay tries again."""
_log = get_logger(__name__)


class WakeUps:
    """Owes and tells."""

    def __init__(self, mailbox: Mailbox, errands: Errands) -> None:
        self._mailbox = mailbox
        self._errands = errands

    async def owe(self, tx: Transaction, kind: str, target: int, deliver: Deliver) -> None:
        """Store a wake-up with the change it tells of, and deliver it once that is committed."""
        await self._mailbox.owe(tx, kind, target)
        self.tell(tx, kind, target, deliver)

    def tell(self, tx: Transaction, kind: str, target: int, deliver: Deliver) -> None:
        """Deliver a wake-up that is stored already, once it is committed."""
        tx.after_commit.append(lambda: self._errands.run(_tell(kind, target, deliver)))


async def _tell(kind: str, target: int, deliver: Deliver) -> None:
    try:
        await deliver(target)
    except ConclaveError as error:
        _log.warning("wake-up is left to the relay", kind=kind, target=target, error=error.code)

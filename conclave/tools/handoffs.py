"""Calls that this process judged a moment ago: whoever runs one at once need not read it again.

Only for calls that look at files. What is kept is as old as the commit of the reply that asked
for the call; that the call still stands is seen when it is noted.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from conclave.db import Transaction
from conclave.tools.ledger import OpenedExecution

FRESH_SECONDS = 1.0
_MOST = 1000


class Handoffs:
    """Keeps lines from their commit on, for `FRESH_SECONDS`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[int, tuple[float, OpenedExecution]] = {}

    def leave(self, tx: Transaction, opened: OpenedExecution) -> None:
        """Keep a line once the transaction that stored it is committed."""
        tx.after_commit.append(lambda: self._keep(opened))

    def take(self, execution_id: int) -> OpenedExecution | None:
        """Return a line and forget it; None where it was not left here, or too long ago."""
        left_at, opened = self._left.pop(execution_id, (float("-inf"), None))
        return opened if self._clock() - left_at <= FRESH_SECONDS else None

    def _keep(self, opened: OpenedExecution) -> None:
        while len(self._left) >= _MOST:
            del self._left[next(iter(self._left))]
        self._left[opened.execution.id] = (self._clock(), opened)

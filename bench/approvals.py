"""What 1,000 chats that wait for a verdict cost: memory, and what goes on while nothing does.

A product of its own, with a tool that needs a yes: the others of the bench have none. Then
everything is stopped and started again on the same data, and all of them are decided.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from conclave.crypto import new_key
from tests.harness.waiting_chats import Rates, waiting_chats

CHATS = 1000
WARM_UP = 20
"""Chats before the first look at the worker's memory: modules, pools and caches are filled."""
WATCHED_SECONDS = 15.0


@dataclass(frozen=True)
class Waiting:
    """What was measured."""

    chats: int
    grown_mb: float
    before_mb: float
    idle: Rates
    """Before there were any but the warm-up's."""
    waiting: Rates
    decided: int
    """After the restart."""
    lines: int
    """That the tool wrote, different ones."""
    opened_seconds: float
    decided_seconds: float

    @property
    def added_transactions(self) -> float:
        """Transactions a second that waiting adds."""
        return max(0.0, self.waiting.transactions - self.idle.transactions)

    @property
    def added_requests(self) -> float:
        """Requests to Temporal a second that waiting adds."""
        return max(0.0, self.waiting.requests - self.idle.requests)


async def approvals(chats: int = CHATS) -> Waiting:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="wait-", ignore_cleanup_errors=True) as name:
        root, key = Path(name), new_key()
        root.chmod(0o711)  # PostgreSQL runs as another user than root
        async with waiting_chats(root, key) as before:
            await before.open(WARM_UP)
            await before.quiet(1)
            memory, idle = before.memory_mb(), await before.idle_rates(WATCHED_SECONDS)
            began = time.monotonic()
            await before.open(chats - WARM_UP)
            opened = time.monotonic() - began
            await before.quiet(idle.requests + 1)
            waiting = await before.idle_rates(WATCHED_SECONDS)
            grown = before.memory_mb() - memory
        async with waiting_chats(root, key) as after:
            began = time.monotonic()
            decided = await after.decide_all()
            taken = time.monotonic() - began
            lines = len(set(after.outside.sent()))
            if lines != len(after.outside.sent()):
                raise RuntimeError("a line was sent twice")
    return Waiting(chats, grown, memory, idle, waiting, decided, lines, opened, taken)

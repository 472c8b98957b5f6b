"""Asking before the outside world is called, and telling how it went.

    permit = await breakers.admit("mail", lasts=30)
    async with breakers.watched(permit, verdict):
        ...  # the call

Names are `kind` or `kind:id` (`llm:openai`, `webhook:7`); a breaker is made by its first use.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from enum import Enum, auto
from typing import Protocol

from conclave.db import Transaction
from schema.domain.base import Shape


class Verdict(Enum):
    """What a call says of whom it called."""

    ANSWERED = auto()
    """It is there, whatever it said."""
    FAILED = auto()
    """It is not, or cannot do its work."""
    NONE = auto()
    """Nothing: the call was cut by us, or put off by the other side."""


class Permit(Shape):
    """Leave to make one call."""

    circuit: str
    epoch: int
    """Of the breaker when it admitted: what is reported after a change of state is old news."""
    probe: str | None = None
    """The place it holds while the breaker is half open."""


class Breakers(Protocol):
    """The circuit breakers of all processes."""

    async def admit(self, circuit: str, *, lasts: float, tx: Transaction | None = None) -> Permit:
        """Let a call through that takes `lasts` seconds at most. Costs no query as a rule.

        What it stores, it stores in `tx` where one is given, and never waits for a lock there:
        where that is rolled back, nothing was claimed. Raises `CircuitOpen`.
        """
        ...

    def watched(
        self, permit: Permit, verdict: Callable[[Exception], Verdict]
    ) -> AbstractAsyncContextManager[None]:
        """Report how the block ends: answered, or what `verdict` says of what it raised.

        Not to be entered inside a transaction. The block's own outcome always goes on as it is.
        """
        ...

    def is_closed(self, circuit: str) -> bool:
        """Whether calls go through, as last known here. Costs no query."""
        ...

"""Circuit breakers that never open."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from conclave.db import Transaction
from conclave.ports.breakers import Permit, Verdict


class OpenGate:
    """Implements `conclave.ports.breakers.Breakers`; lets everything through."""

    async def admit(self, circuit: str, *, lasts: float, tx: Transaction | None = None) -> Permit:
        return Permit(circuit=circuit, epoch=0)

    @asynccontextmanager
    async def watched(
        self, permit: Permit, verdict: Callable[[Exception], Verdict]
    ) -> AsyncGenerator[None]:
        yield

    def is_closed(self, circuit: str) -> bool:
        return True

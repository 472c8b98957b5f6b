"""Circuit breakers: whether a call outside is made at all, decided for all processes.

The record decides whatever changes a state. A closed breaker costs no query: what other processes
changed is known here within a second (`outlook`), and answered calls are counted in batches
(`counting`). So are the failures of calls admitted before the last change of state: old news.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import asynccontextmanager

from conclave.breakers import machine
from conclave.breakers.counting import Counting
from conclave.breakers.outlook import Outlook, Seen
from conclave.breakers.record import BreakerRecord, Step
from conclave.breakers.repository import BreakerRepository, Glance, Tally
from conclave.db import Database, Transaction
from conclave.errors import CircuitOpen, ConclaveError
from conclave.events import EventLog
from conclave.logging import get_logger
from conclave.ports.breakers import Permit, Verdict
from schema.domain.breakers import CircuitState

PROBE_PAUSE_SECONDS = 5.0
"""When to ask again while others probe."""
SUSPECT_PAUSE_SECONDS = 1.0
"""When to ask again while calls in flight decide whether it opens."""
FORCED_PAUSE_SECONDS = 60.0
"""When to ask again where an administrator decides."""
_log = get_logger(__name__)


class BreakerService:
    """A `Breakers` for whoever calls the outside world."""

    def __init__(
        self, db: Database, events: EventLog, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._db = db
        self._clock = clock
        self._breakers = BreakerRepository()
        self._outlook = Outlook(self._read, clock=clock)
        self._record = BreakerRecord(events, self._outlook)
        self._counting = Counting(self._count)
        self._in_flight: Counter[str] = Counter()
        self._suspects: set[str] = set()
        """Breakers under which a call failed here, and none was answered since."""

    async def admit(self, circuit: str, *, lasts: float, tx: Transaction | None = None) -> Permit:
        """Let a call through; see `Breakers.admit`. Raises `CircuitOpen`."""
        seen = await self._outlook.of(circuit, tx)
        if seen.glance.state is CircuitState.CLOSED:
            self._hold_back(seen.glance)
            return Permit(circuit=circuit, epoch=seen.glance.epoch)
        if waits := self._waits(seen):
            raise CircuitOpen(circuit, waits)
        if tx is not None:
            return await self._probe(tx, circuit, lasts)
        async with self._db.transaction() as own:
            return await self._probe(own, circuit, lasts)

    @asynccontextmanager
    async def watched(
        self, permit: Permit, verdict: Callable[[Exception], Verdict]
    ) -> AsyncGenerator[None]:
        """Report how the block ends; see `Breakers.watched`."""
        self._in_flight[permit.circuit] += 1
        try:
            yield
        except Exception as error:
            await self._report(permit, verdict(error), _sentence(error))
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self._report(permit, Verdict.NONE, ""))
            raise
        else:
            await self._report(permit, Verdict.ANSWERED, "")
        finally:
            self._in_flight[permit.circuit] -= 1

    @property
    def record(self) -> BreakerRecord:
        """How breakers are changed: what administrators do holds in this process at once."""
        return self._record

    def is_closed(self, circuit: str) -> bool:
        """Whether calls go through, as last known here."""
        seen = self._outlook.last(circuit)
        return seen is None or seen.glance.state is CircuitState.CLOSED

    def forget(self) -> None:
        """Read everything anew; calls that are not counted yet are still counted."""
        self._outlook.forget()
        self._suspects.clear()

    async def close(self) -> None:
        """Store what was counted."""
        await self._counting.close()

    def _hold_back(self, glance: Glance) -> None:
        """Do not send all there is to what has just failed.

        A breaker opens by what failed, not by what is in flight: else everything that waits would
        be sent in the time between the first failure and the opening.
        """
        is_full = self._in_flight[glance.name] >= glance.failure_threshold
        if glance.name in self._suspects and is_full:
            raise CircuitOpen(glance.name, SUSPECT_PAUSE_SECONDS)

    async def _probe(self, tx: Transaction, circuit: str, lasts: float) -> Permit:
        """Claim a place. Whoever finds the row locked does not wait: somebody else claims."""
        before = await self._breakers.get(tx, circuit, skip_locked=True)
        if before is None:
            raise CircuitOpen(circuit, SUSPECT_PAUSE_SECONDS)
        probe = uuid.uuid4().hex
        after = machine.claim(before, probe, lasts)
        if after is not None:
            await self._record.store(tx, before, after)
            return Permit(circuit=circuit, epoch=after.epoch, probe=probe)
        seen = self._outlook.put(before)
        if before.state is CircuitState.CLOSED:
            return Permit(circuit=circuit, epoch=before.epoch)
        raise CircuitOpen(circuit, self._waits(seen) or PROBE_PAUSE_SECONDS)

    async def _report(self, permit: Permit, verdict: Verdict, reason: str) -> None:
        """Take a call's outcome into account; where that fails, the call itself goes on."""
        try:
            match verdict:
                case Verdict.ANSWERED:
                    await self._answered(permit)
                case Verdict.FAILED:
                    await self._failed(permit, reason)
                case Verdict.NONE:
                    if permit.probe is not None:
                        await self._change(
                            permit.circuit, lambda one: machine.released(one, permit)
                        )
        except ConclaveError as error:
            _log.warning("a call is not counted", circuit=permit.circuit, error=error.message)

    async def _answered(self, permit: Permit) -> None:
        self._suspects.discard(permit.circuit)
        seen = self._outlook.last(permit.circuit)
        if permit.probe is None and seen is not None and seen.exists:
            self._counting.add(permit.circuit, successes=1)
            return
        await self._change(permit.circuit, lambda one: machine.answered(one, permit))

    async def _failed(self, permit: Permit, reason: str) -> None:
        self._suspects.add(permit.circuit)
        seen = self._outlook.last(permit.circuit)
        if seen is not None and seen.exists and seen.glance.epoch > permit.epoch:
            self._counting.add(permit.circuit, failures=1)
            return
        await self._change(permit.circuit, lambda one: machine.failed(one, permit, reason))

    async def _change(self, name: str, step: Step) -> None:
        async with self._db.transaction() as tx:
            await self._record.change(tx, name, step)

    def _waits(self, seen: Seen) -> float:
        """Return the seconds until a probe may be let through; 0: it may be now."""
        if seen.glance.forced:
            return FORCED_PAUSE_SECONDS
        return max(0.0, seen.probes_at - self._clock())

    async def _read(self, names: Collection[str], tx: Transaction | None) -> list[Glance]:
        if tx is not None:
            return await self._breakers.glance(tx, names)
        async with self._db.autocommit() as own:
            return await self._breakers.glance(own, names)

    async def _count(self, tallies: Mapping[str, Tally]) -> None:
        async with self._db.autocommit() as tx:
            await self._breakers.add(tx, tallies)


def _sentence(error: Exception) -> str:
    """Return what may be told of an error."""
    return error.message if isinstance(error, ConclaveError) else "Internal error"

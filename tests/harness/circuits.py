"""Processes that share circuit breakers, and time that tests let pass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update

from conclave.auditing import AuditLog
from conclave.breakers.administration import BreakerAdministration
from conclave.breakers.commands import Configure
from conclave.breakers.service import BreakerService
from conclave.db import Database
from conclave.events import EventLog
from schema.domain.breakers import Breaker
from schema.domain.events import Delta, EventType
from schema.tables.breakers import BreakerRow
from schema.tables.events import EventRow

NAME = "llm:openai"
MOMENTS = (BreakerRow.last_failure, BreakerRow.opened_at, BreakerRow.next_attempt_at)


class Silence:
    """A bus that tells nobody."""

    def poke(self) -> None: ...
    def publish(self, delta: Delta) -> None: ...
    def flush(self, conversation_id: int) -> None: ...
    async def listen(self) -> AsyncIterator[Delta | None]:
        yield None


@dataclass
class Clock:
    """The processes' own clocks; they start anywhere and run alike."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Site:
    """A database, and the processes that share it."""

    db: Database
    clock: Clock = field(default_factory=Clock)
    processes: list[BreakerService] = field(default_factory=list[BreakerService])

    def process(self) -> BreakerService:
        made = BreakerService(self.db, EventLog(Silence()), clock=self.clock)
        self.processes.append(made)
        return made

    async def close(self) -> None:
        """Store what the processes counted."""
        for process in self.processes:
            await process.close()

    @property
    def desk(self) -> BreakerAdministration:
        return BreakerAdministration(self.db, AuditLog(), self.process().record)

    async def configured(self, **fields: Any) -> None:
        await self.desk.configure(Configure(name=NAME, **fields))

    async def breaker(self) -> Breaker:
        return await self.desk.get(NAME)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass for the record and for every process."""
        self.clock.now += seconds
        by = timedelta(seconds=seconds)
        async with self.db.transaction() as tx:
            row = (await tx.conn.execute(select(BreakerRow.__table__))).mappings().one()
            moments = {
                column.key: None if row[column.key] is None else row[column.key] - by
                for column in MOMENTS
            }
            breaker = Breaker.model_validate({**row, "read_at": row["created_at"]})
            probes = [
                probe.model_copy(update={"expires_at": probe.expires_at - by}).model_dump(
                    mode="json"
                )
                for probe in breaker.probes
            ]
            failures = [moment - by for moment in breaker.failures]
            await tx.conn.execute(
                update(BreakerRow).values(**moments, probes=probes, failures=failures)
            )

    async def events(self, type_: EventType) -> list[dict[str, Any]]:
        async with self.db.transaction() as tx:
            rows = await tx.conn.scalars(
                select(EventRow.data).where(EventRow.type == type_).order_by(EventRow.id)
            )
            return [*rows]

    async def moves(self) -> list[tuple[str, str]]:
        """The changes of state that were told of."""
        told = await self.events(EventType.CIRCUIT_CHANGED)
        return [(one["from_state"], one["to_state"]) for one in told]

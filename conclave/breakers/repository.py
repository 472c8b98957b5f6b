"""All SQL on circuit breakers. Moments are the database's: the processes' clocks may differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import extract, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from conclave.db import Transaction
from schema.domain.base import Shape
from schema.domain.breakers import Breaker, CircuitState
from schema.tables.breakers import BreakerRow

_SELECT = select(BreakerRow.__table__, func.clock_timestamp().label("read_at"))
_FIXED = {"name", "created_at", "read_at"}
_GLANCE = select(
    BreakerRow.name,
    BreakerRow.epoch,
    BreakerRow.state,
    BreakerRow.forced,
    BreakerRow.failure_threshold,
    extract("epoch", BreakerRow.next_attempt_at - func.clock_timestamp()).label("opens_in"),
)
_ADD = text(
    """
    UPDATE circuit_breakers AS b
    SET total_successes = b.total_successes + t.successes,
        total_failures = b.total_failures + t.failures
    FROM unnest(CAST(:names AS text[]), CAST(:successes AS bigint[]), CAST(:failures AS bigint[]))
        AS t(name, successes, failures)
    WHERE b.name = t.name
    """
)


class Glance(Shape):
    """As much of a breaker as admission needs."""

    name: str
    epoch: int = 0
    state: CircuitState = CircuitState.CLOSED
    forced: bool = False
    failure_threshold: int = 5
    opens_in: float | None = None
    """Seconds until a probe is let through."""


class Tally(Shape):
    """Calls that are not counted in the record yet."""

    successes: int = 0
    failures: int = 0


class BreakerRepository:
    """Reads and writes breakers."""

    async def get(
        self, tx: Transaction, name: str, *, lock: bool = False, skip_locked: bool = False
    ) -> Breaker | None:
        """Return one, locked where asked; None where there is none, or `skip_locked` and held."""
        statement = _SELECT.where(BreakerRow.name == name)
        if lock or skip_locked:
            statement = statement.with_for_update(skip_locked=skip_locked)
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else Breaker.model_validate(row)

    async def list(self, tx: Transaction, limit: int, offset: int) -> tuple[Sequence[Breaker], int]:
        """Return a piece of the list, newest first, and the length of the whole."""
        total = await tx.conn.scalar(select(func.count()).select_from(BreakerRow))
        newest = (BreakerRow.created_at.desc(), BreakerRow.name)
        rows = await tx.conn.execute(_SELECT.order_by(*newest).limit(limit).offset(offset))
        return [Breaker.model_validate(row) for row in rows.mappings()], total or 0

    async def glance(self, tx: Transaction, names: Collection[str]) -> list[Glance]:
        """Return what admission needs of those that exist."""
        rows = await tx.conn.execute(_GLANCE.where(BreakerRow.name.in_(names)))
        return [Glance.model_validate(row) for row in rows.mappings()]

    async def make(self, tx: Transaction, name: str) -> bool:
        """Make a closed breaker with the default configuration; False: it was there."""
        statement = insert(BreakerRow).values(name=name).on_conflict_do_nothing()
        made = await tx.conn.execute(statement.returning(BreakerRow.name))
        return made.scalar_one_or_none() is not None

    async def store(self, tx: Transaction, breaker: Breaker) -> None:
        """Store all of a breaker that was read with its lock."""
        values = breaker.model_dump(exclude=_FIXED | {"probes", "transitions"})
        documents = breaker.model_dump(mode="json", include={"probes", "transitions"})
        await tx.conn.execute(
            update(BreakerRow).where(BreakerRow.name == breaker.name).values(**values, **documents)
        )

    async def add(self, tx: Transaction, tallies: Mapping[str, Tally]) -> None:
        """Count calls, of breakers that exist."""
        names = sorted(tallies)
        await tx.conn.execute(
            _ADD,
            {
                "names": names,
                "successes": [tallies[name].successes for name in names],
                "failures": [tallies[name].failures for name in names],
            },
        )

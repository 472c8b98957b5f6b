"""All SQL on firings."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal

from pydantic import JsonValue
from sqlalchemy import ColumnElement, Numeric, case, extract, func, null, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import InstrumentedAttribute

from conclave.db import Transaction
from conclave.triggers.commands import NewFiring
from schema.domain.triggers import ENDS, Made, RunStatus, TriggerRun, TriggerStats
from schema.tables.triggers import InboundEventRow, TriggerRunRow

_MOST_SHOWN_BYTES = 64 * 1024
"""Of a body from outside in a list of firings; the action is given all of it."""
_MOST_RESULT = 500


def _data(body: ColumnElement[JsonValue]) -> ColumnElement[JsonValue]:
    return case(
        (TriggerRunRow.inbound_id.is_(None), TriggerRunRow.event_data),
        else_=func.jsonb_build_object(
            "headers", InboundEventRow.headers, "body", body, type_=JSONB
        ),
    )


_OWN: tuple[InstrumentedAttribute[object], ...] = tuple(
    getattr(TriggerRunRow, name) for name in TriggerRun.model_fields if name != "event_data"
)
_WHOLE = select(*_OWN, _data(InboundEventRow.body.expression).label("event_data")).outerjoin(
    InboundEventRow, InboundEventRow.id == TriggerRunRow.inbound_id
)
_SHORT = select(
    *_OWN,
    _data(
        case((InboundEventRow.body_bytes <= _MOST_SHOWN_BYTES, InboundEventRow.body), else_=null())
    ).label("event_data"),
).outerjoin(InboundEventRow, InboundEventRow.id == TriggerRunRow.inbound_id)
_DURATION = func.cast(
    extract("epoch", func.clock_timestamp() - TriggerRunRow.claimed_at) * 1000, Numeric(14, 3)
)


class RunRepository:
    """A firing's end is one conditional UPDATE: of two who end it, one finds it ended."""

    async def insert(self, tx: Transaction, wanted: NewFiring) -> int | None:
        """Store a firing; None where its key has one."""
        values = wanted.model_dump(mode="json")
        if wanted.status in ENDS:
            values["finished_at"] = func.clock_timestamp()
        added = await tx.conn.execute(
            insert(TriggerRunRow)
            .values(**values)
            .on_conflict_do_nothing()
            .returning(TriggerRunRow.id)
        )
        return added.scalar_one_or_none()

    async def id_of(self, tx: Transaction, trigger_id: int, firing_key: str) -> int | None:
        """Return the firing of a key."""
        return await tx.conn.scalar(
            select(TriggerRunRow.id).where(
                TriggerRunRow.trigger_id == trigger_id, TriggerRunRow.firing_key == firing_key
            )
        )

    async def get(self, tx: Transaction, run_id: int, *, lock: bool = False) -> TriggerRun | None:
        """Return one firing with all that caused it."""
        statement = _WHOLE.where(TriggerRunRow.id == run_id)
        if lock:
            statement = statement.with_for_update(of=TriggerRunRow)
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else TriggerRun.model_validate(row)

    async def claim(self, tx: Transaction, run_id: int) -> bool:
        """Begin a firing, or go on with one; False where it has ended."""
        claimed = await tx.conn.execute(
            update(TriggerRunRow)
            .where(TriggerRunRow.id == run_id, TriggerRunRow.status.not_in(ENDS))
            .values(
                status=RunStatus.RUNNING,
                claimed_at=func.coalesce(TriggerRunRow.claimed_at, func.clock_timestamp()),
            )
        )
        return claimed.rowcount == 1

    async def note_sending(self, tx: Transaction, run_id: int) -> None:
        """Store that somebody else's server is about to be called."""
        await tx.conn.execute(
            update(TriggerRunRow)
            .where(TriggerRunRow.id == run_id)
            .values(sent_at=func.clock_timestamp(), attempts=TriggerRunRow.attempts + 1)
        )

    async def finish(
        self,
        tx: Transaction,
        run_id: int,
        status: RunStatus,
        *,
        result: Mapping[str, JsonValue],
        error: str | None,
        made: tuple[Made, int] | None,
    ) -> bool:
        """Store how a firing ended; False where it had ended."""
        ended = await tx.conn.execute(
            update(TriggerRunRow)
            .where(TriggerRunRow.id == run_id, TriggerRunRow.status.not_in(ENDS))
            .values(
                status=status,
                result=dict(result),
                error=None if error is None else error[:_MOST_RESULT],
                made_kind=None if made is None else made[0],
                made_id=None if made is None else made[1],
                finished_at=func.clock_timestamp(),
                duration_ms=func.coalesce(_DURATION, Decimal(0)),
            )
        )
        return ended.rowcount == 1

    async def list(
        self,
        tx: Transaction,
        trigger_id: int,
        statuses: Collection[RunStatus],
        limit: int,
        offset: int,
    ) -> tuple[Sequence[TriggerRun], int]:
        """Return a page of those that ended so, newest first, and the number of all."""
        conditions = (TriggerRunRow.trigger_id == trigger_id, TriggerRunRow.status.in_(statuses))
        total = await tx.conn.scalar(
            select(func.count()).select_from(TriggerRunRow).where(*conditions)
        )
        rows = await tx.conn.execute(
            _SHORT.where(*conditions).order_by(TriggerRunRow.id.desc()).limit(limit).offset(offset)
        )
        return [TriggerRun.model_validate(row) for row in rows.mappings()], total or 0

    async def stats(self, tx: Transaction, trigger_id: int) -> TriggerStats:
        """Count a trigger's firings by their ends."""
        rows = await tx.conn.execute(
            select(
                TriggerRunRow.status,
                func.count().label("number"),
                func.avg(TriggerRunRow.duration_ms).label("duration"),
            )
            .where(TriggerRunRow.trigger_id == trigger_id, TriggerRunRow.status.in_(ENDS))
            .group_by(TriggerRunRow.status)
        )
        found = {row.status: (int(row.number), float(row.duration)) for row in rows}
        counts = {end.value: found.get(end.value, (0, 0.0))[0] for end in ENDS}
        done = counts[RunStatus.SUCCESS] + counts[RunStatus.FAILURE]
        spent = sum(
            number * duration
            for status, (number, duration) in found.items()
            if status != RunStatus.SKIPPED
        )
        return TriggerStats(
            total_executions=sum(counts.values()),
            success_rate=round(100 * counts[RunStatus.SUCCESS] / done, 2) if done else 0.0,
            avg_duration_ms=round(spent / done, 3) if done else 0.0,
            execution_counts=counts,
        )

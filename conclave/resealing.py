"""Sealing again what is stored under an older key of ENCRYPTION_KEY, while the product runs.

Whatever keeps sealed values describes each place as a `SealedPlace`, a `SealedColumn` or a
`SealedDocument` as a rule; `conclave.container.sealed_places` names them all.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from pydantic import JsonValue
from sqlalchemy import ColumnElement, LargeBinary, bindparam, select, type_coerce, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import InstrumentedAttribute

from conclave.crypto import Keyring, UndecipherableSecret, key_id_of
from conclave.db import Database, Transaction
from schema.tables.base import Base

BATCH = 100
_PASSES = 5
Key = int | str
BinaryColumn = InstrumentedAttribute[bytes | None] | InstrumentedAttribute[bytes]
Column = TypeVar("Column", bound=InstrumentedAttribute[Any])
Stored = TypeVar("Stored")


class SealedValue(NamedTuple):
    """A stored value and the row it stands in."""

    key: Key
    sealed: bytes


class SealedPlace(Protocol):
    """Somewhere sealed values are kept."""

    @property
    def name(self) -> str:
        """What people call it: `table.column`."""
        ...

    def context(self, key: Key) -> str:
        """Return the context the value of this row is sealed with."""
        ...

    async def page(self, tx: Transaction, after: Key | None, limit: int) -> Sequence[SealedValue]:
        """Return the next rows that hold a value, by key."""
        ...

    async def replace(self, tx: Transaction, value: SealedValue, sealed: bytes) -> bool:
        """Put `sealed` in the place of the value, unless somebody changed it meanwhile."""
        ...


class _Place(Generic[Column]):
    """What both kinds of places have; `key` is the primary key of the rows."""

    def __init__(
        self,
        row: type[Base],
        key: InstrumentedAttribute[int] | InstrumentedAttribute[str],
        column: Column,
        context: Callable[[Key], str],
    ) -> None:
        self._row = row
        self._key = key
        self._column = column
        self._context = context

    @property
    def name(self) -> str:
        """Return `table.column`."""
        return f"{self._row.__tablename__}.{self._column.key}"

    def context(self, key: Key) -> str:
        """Return the context the value of this row is sealed with."""
        return self._context(key)

    async def _rows(
        self, tx: Transaction, stored: ColumnElement[Stored], after: Key | None, limit: int
    ) -> Sequence[tuple[Key, Stored]]:
        """Return the next rows that hold something, by key."""
        statement = select(self._key, stored).where(stored.is_not(None))
        if after is not None:
            statement = statement.where(self._key > after)
        rows = await tx.conn.execute(statement.order_by(self._key).limit(limit))
        return [(key, value) for key, value in rows]


class SealedColumn(_Place[BinaryColumn]):
    """A binary column that holds sealed values or NULL."""

    async def page(self, tx: Transaction, after: Key | None, limit: int) -> Sequence[SealedValue]:
        """Return the next rows that hold a value, by key."""
        rows = await self._rows(tx, type_coerce(self._column, LargeBinary), after, limit)
        return [SealedValue(key, bytes(sealed)) for key, sealed in rows]

    async def replace(self, tx: Transaction, value: SealedValue, sealed: bytes) -> bool:
        """Compare and set."""
        statement = (
            update(self._row)
            .where(self._key == value.key, self._column == bindparam("old", type_=LargeBinary))
            .values({self._column: bindparam("new", type_=LargeBinary)})
        )
        result = await tx.conn.execute(statement, {"old": value.sealed, "new": sealed})
        return result.rowcount == 1


class SealedDocument(_Place[InstrumentedAttribute[JsonValue]]):
    """A JSON column, some of whose values are `{"sealed": base64}`; the others are left alone."""

    FIELD = "sealed"

    async def page(self, tx: Transaction, after: Key | None, limit: int) -> Sequence[SealedValue]:
        """Return the next rows that hold a sealed value, by key."""
        rows = await self._rows(tx, self._sealed, after, limit)
        return [SealedValue(key, _decoded(text)) for key, text in rows]

    async def replace(self, tx: Transaction, value: SealedValue, sealed: bytes) -> bool:
        """Compare and set."""
        statement = (
            update(self._row)
            .where(self._key == value.key, self._sealed == b64encode(value.sealed).decode())
            .values({self._column: {self.FIELD: b64encode(sealed).decode()}})
        )
        return (await tx.conn.execute(statement)).rowcount == 1

    @property
    def _sealed(self) -> ColumnElement[str]:
        return type_coerce(self._column, JSONB)[self.FIELD].astext


def _decoded(text: str) -> bytes:
    """Return the bytes; none where it is no base64, which then counts as unreadable."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return b""


@dataclass
class Resealed:
    """What was done in one place."""

    place: str
    resealed: int = 0
    already: int = 0
    """Sealed with the key that seals now when it was first looked at."""
    unreadable: int = 0
    """Sealed with a key that is not at hand, or altered: left as they are."""


class Resealer:
    """Seals everything with the key that seals now. Safe to run twice, and to be killed."""

    def __init__(self, db: Database, keys: Keyring, places: Sequence[SealedPlace]) -> None:
        self._db = db
        self._keys = keys
        self._places = places

    async def run(self) -> list[Resealed]:
        """Go through every place in batches, each its own transaction.

        Rows somebody else changes meanwhile are looked at again, a few times.
        """
        return [await self._everything_in(place) for place in self._places]

    async def census(self) -> Counter[tuple[str, bytes]]:
        """Count the rows by place and key id."""
        found: Counter[tuple[str, bytes]] = Counter()
        for place in self._places:
            after: Key | None = None
            while page := await self._page(place, after):
                found.update((place.name, key_id_of(value.sealed)) for value in page)
                after = page[-1].key
        return found

    async def _page(self, place: SealedPlace, after: Key | None) -> Sequence[SealedValue]:
        async with self._db.transaction() as tx:
            return await place.page(tx, after, BATCH)

    async def _everything_in(self, place: SealedPlace) -> Resealed:
        report, lost = await self._pass(place)
        for _ in range(_PASSES):
            if not lost:
                break
            again, lost = await self._pass(place)
            report.resealed += again.resealed
            report.unreadable = again.unreadable
        return report

    async def _pass(self, place: SealedPlace) -> tuple[Resealed, int]:
        """Go through a place once; tell too how many rows changed under its hands."""
        report, lost = Resealed(place.name), 0
        after: Key | None = None
        while True:
            async with self._db.transaction() as tx:
                page = await place.page(tx, after, BATCH)
                for value in page:
                    lost += await self._reseal(tx, place, value, report)
            if not page:
                return report, lost
            after = page[-1].key

    async def _reseal(
        self, tx: Transaction, place: SealedPlace, value: SealedValue, report: Resealed
    ) -> int:
        if key_id_of(value.sealed) == self._keys.writing_key_id:
            report.already += 1
            return 0
        context = place.context(value.key).encode()
        try:
            plain = self._keys.open_bytes(value.sealed, context)
        except UndecipherableSecret:
            report.unreadable += 1
            return 0
        if not await place.replace(tx, value, self._keys.seal_bytes(plain, context)):
            return 1
        report.resealed += 1
        return 0

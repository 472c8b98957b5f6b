"""The database: one engine a process, one transaction a use case, committed here alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from psycopg.errors import DeadlockDetected, UndefinedColumn, UndefinedTable
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from conclave.errors import Unavailable
from schema.domain.events import EventDraft

_ASIDE_CONNECTIONS = 2


@dataclass
class Transaction:
    """An open transaction. Repositories use `conn`; nobody commits but `Database`."""

    conn: AsyncConnection
    before_commit: list[Callable[[], Awaitable[None]]] = field(
        default_factory=list[Callable[[], Awaitable[None]]]
    )
    """Called as the last things before the commit: what they lock is locked for it alone."""
    after_commit: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """Called once the commit stands: they tell, they do not store, and they do not fail."""
    events: list[EventDraft] = field(default_factory=list[EventDraft])
    """Those that are stored before the commit (`EventLog.append`)."""

    @asynccontextmanager
    async def attempt(self) -> AsyncGenerator[None]:
        """Undo what the block does, and what it left for the commit, where it raises."""
        lists: tuple[list[object], ...] = (self.before_commit, self.after_commit, self.events)  # pyright: ignore[reportAssignmentType]  # shortened, never added to
        lengths = [len(one) for one in lists]
        try:
            async with self.conn.begin_nested():
                yield
        except BaseException:
            for one, length in zip(lists, lengths, strict=True):
                del one[length:]
            raise


class Database:
    """Hands out transactions."""

    def __init__(self, engine: AsyncEngine, aside: AsyncEngine) -> None:
        self.engine = engine
        self.aside_engine = aside
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    @classmethod
    def connect(cls, url: str, *, pool_size: int) -> Database:
        """Make the engine; the first transaction opens the first connection."""
        return cls(_engine(url, pool_size), _engine(url, _ASIDE_CONNECTIONS))

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """Commit at the end of the block; roll back when it raises.

        Raises `Unavailable` where the database cannot be reached or went away.
        """
        with _translated():
            async with self.engine.connect() as conn:
                transaction = Transaction(conn)
                async with conn.begin():
                    yield transaction
                    await _finish(transaction)
        for tell in transaction.after_commit:
            tell()

    @asynccontextmanager
    async def autocommit(self) -> AsyncGenerator[Transaction]:
        """Let each statement be its own transaction: for one read, or one write that is whole.

        Raises `Unavailable` as `transaction` does.
        """
        with _translated():
            async with self._autocommit.connect() as conn:
                transaction = Transaction(conn)
                yield transaction
                await _finish(transaction)
        for tell in transaction.after_commit:
            tell()

    @asynccontextmanager
    async def aside(self) -> AsyncGenerator[Transaction]:
        """Read what may be asked for inside somebody's transaction, on connections kept for it.

        With those of `transaction`, all of them held by callers that wait for this very read would
        keep it from being made. Nothing in it may wait for a lock or another connection. Raises
        `Unavailable` as `transaction` does.
        """
        with _translated():
            async with self.aside_engine.connect() as conn, conn.begin():
                yield Transaction(conn)

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()
        await self.aside_engine.dispose()


async def _finish(transaction: Transaction) -> None:
    for store in transaction.before_commit:
        await store()


def _engine(url: str, pool_size: int) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,  # an overflow connection is closed after use: waiting is cheaper
        pool_timeout=10,
        pool_recycle=1800,
        hide_parameters=True,  # errors are logged whole
        connect_args={"connect_timeout": 5, "application_name": "conclave"},
    )


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        if isinstance(error, OperationalError) and isinstance(error.orig, DeadlockDetected):
            raise Unavailable(
                "Others changed the same at the same time: try again.", dependency="database"
            ) from error
        raise Unavailable("The database cannot be reached.", dependency="database") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Unavailable("The database cannot be reached.", dependency="database") from error
        if isinstance(error.orig, UndefinedTable | UndefinedColumn):
            raise Unavailable(
                "The database lacks this build's schema: run `conclave migrate`.",
                dependency="database",
            ) from error
        raise

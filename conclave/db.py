"""The database: one engine a process, one transaction a use case, committed here alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from psycopg.errors import DeadlockDetected, UndefinedColumn, UndefinedTable
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from conclave.errors import Unavailable


@dataclass
class Transaction:
    """An open transaction. Repositories use `conn`; nobody commits but `Database`."""

    conn: AsyncConnection
    after_commit: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """Called once the commit stands: they tell, they do not store, and they do not fail."""
    is_open: bool = True


_innermost: ContextVar[Transaction | None] = ContextVar("innermost", default=None)
_SIDE_CONNECTIONS = 2
"""For what is asked for while a transaction is open, as what is believed for a second: where
everybody holds a connection and waits for one more, nobody would ever give one back."""


class Database:
    """Hands out transactions."""

    def __init__(self, engine: AsyncEngine, side: AsyncEngine | None = None) -> None:
        self.engine = engine
        self._side = side or engine
        self._autocommit = {
            one: one.execution_options(isolation_level="AUTOCOMMIT") for one in {engine, self._side}
        }

    @classmethod
    def connect(cls, url: str, *, pool_size: int) -> Database:
        """Make the engine; the first transaction opens the first connection."""
        return cls(_engine(url, pool_size), _engine(url, _SIDE_CONNECTIONS))

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """Commit at the end of the block; roll back when it raises.

        Raises `Unavailable` where the database cannot be reached or went away.
        """
        with _translated():
            async with self._pool().connect() as conn, conn.begin():
                transaction = Transaction(conn)
                with _open(transaction):
                    yield transaction
        for tell in transaction.after_commit:
            tell()

    @asynccontextmanager
    async def autocommit(self) -> AsyncGenerator[Transaction]:
        """Let each statement be its own transaction: for one read, or one write that is whole.

        Raises `Unavailable` as `transaction` does.
        """
        with _translated():
            async with self._autocommit[self._pool()].connect() as conn:
                transaction = Transaction(conn)
                with _open(transaction):
                    yield transaction
        for tell in transaction.after_commit:
            tell()

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()
        if self._side is not self.engine:
            await self._side.dispose()

    def _pool(self) -> AsyncEngine:
        outer = _innermost.get()
        return self._side if outer is not None and outer.is_open else self.engine


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
def _open(transaction: Transaction) -> Generator[None]:
    """Remember that its connection is held; tasks begun meanwhile see when it is not any more."""
    outer = _innermost.get()
    _innermost.set(transaction)
    try:
        yield
    finally:
        transaction.is_open = False
        _innermost.set(outer)


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

"""What the database cannot do is told as `Unavailable`, in words that say what to do."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from conclave.db import Database
from conclave.errors import Unavailable
from conclave.settings import Settings


@pytest.mark.parametrize(
    "statement", ["SELECT * FROM no_such_table", "SELECT no_such_column FROM agents"]
)
async def test_a_database_without_this_builds_schema_asks_for_the_migration(
    database: Database, statement: str
):
    with pytest.raises(Unavailable, match="conclave migrate"):
        async with database.transaction() as tx:
            await tx.conn.execute(text(statement))


async def test_an_error_of_the_database_does_not_repeat_what_it_was_given(
    clean_database: Database,
):
    """Errors are logged whole: messages, sealed values and hashes are among what is given."""
    with pytest.raises(DBAPIError, match="division by zero") as caught:
        async with clean_database.transaction() as tx:
            await tx.conn.execute(text("SELECT 1 / 0, CAST(:x AS text)"), {"x": "hunter2"})

    assert "hunter2" not in str(caught.value)


async def test_a_deadlock_is_no_server_that_is_away(database: Database):
    """Each of two waits for what the other has; the server ends one of them."""
    held = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with database.transaction() as tx:
            await tx.conn.execute(text(f"SELECT pg_advisory_xact_lock({first})"))
            await held.wait()
            await tx.conn.execute(text(f"SELECT pg_advisory_xact_lock({second})"))

    outcomes = await asyncio.gather(lock(7001, 7002), lock(7002, 7001), return_exceptions=True)
    [ended] = [outcome for outcome in outcomes if outcome is not None]
    assert isinstance(ended, Unavailable)
    assert "try again" in str(ended)


async def test_what_is_read_aside_does_not_wait_for_connections_that_wait_for_it(
    postgres_url: str,
):
    url = Settings(database_url=postgres_url).sqlalchemy_url
    crowded = Database.connect(url, pool_size=1)
    try:
        async with crowded.transaction(), crowded.aside() as tx:
            assert await tx.conn.scalar(text("SELECT 1")) == 1
    finally:
        await crowded.close()

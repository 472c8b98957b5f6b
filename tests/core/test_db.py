"""What the database cannot do is told as `Unavailable`, in words that say what to do."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from conclave.db import Database
from conclave.errors import Unavailable


@pytest.mark.parametrize(
    "statement", ["SELECT * FROM no_such_table", "SELECT no_such_column FROM agents"]
)
async def test_a_database_without_this_builds_schema_asks_for_the_migration(
    database: Database, statement: str
):
    with pytest.raises(Unavailable, match="conclave migrate"):
        async with database.transaction() as tx:
            await tx.conn.execute(text(statement))

"""Scratch workspaces whose chat was deleted: removed in the hour after, wherever a worker died."""

from __future__ import annotations

from sqlalchemy import select

from conclave.db import Database, Transaction
from conclave.ports.workspaces import WorkspaceStore
from schema.domain.workspaces import conversation_of
from schema.tables.conversations import ConversationRow

_AT_ONCE = 20


class ScratchRemoval:
    """A `Chore`."""

    def __init__(self, db: Database, store: WorkspaceStore) -> None:
        self._db = db
        self._store = store

    async def run(self) -> int:
        """Remove some of them; return how many."""
        by_id = {conversation_of(name): name for name in await self._store.names()}
        by_id.pop(None, None)
        async with self._db.autocommit() as tx:
            living = await _living(tx, [id_ for id_ in by_id if id_ is not None])
        strays = [name for id_, name in by_id.items() if id_ not in living][:_AT_ONCE]
        for name in strays:
            await self._store.remove(name)
        return len(strays)


async def _living(tx: Transaction, ids: list[int]) -> set[int]:
    """Return which conversations there are and are not deleted."""
    rows = await tx.conn.scalars(
        select(ConversationRow.id).where(
            ConversationRow.id.in_(ids), ConversationRow.deleted_at.is_(None)
        )
    )
    return set(rows)

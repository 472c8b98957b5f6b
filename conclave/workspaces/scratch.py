"""Scratch workspaces that nobody needs: of chats that were deleted, removed in the hour after
wherever a worker died, and of tasks that ended some days ago."""

from __future__ import annotations

from conclave.db import Database
from conclave.ports.workspaces import WorkspaceStore
from conclave.workspaces.remains import RemainsRepository
from schema.domain.workspaces import conversation_of

_AT_ONCE = 20


class ScratchRemoval:
    """A `Chore`."""

    def __init__(self, db: Database, store: WorkspaceStore) -> None:
        self._db = db
        self._store = store
        self._remains = RemainsRepository()

    async def run(self) -> int:
        """Remove some of them; return how many."""
        by_id = {conversation_of(name): name for name in await self._store.names()}
        by_id.pop(None, None)
        async with self._db.autocommit() as tx:
            ids = [id_ for id_ in by_id if id_ is not None]
            needed = await self._remains.needed_conversations(tx, ids)
        strays = [name for id_, name in by_id.items() if id_ not in needed][:_AT_ONCE]
        for name in strays:
            await self._store.remove(name)
        return len(strays)

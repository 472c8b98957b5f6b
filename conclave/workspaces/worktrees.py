"""What tasks leave: their workspaces go some days after they have ended, their branches stay.

Until then a task that is tried again finds its files, also those that were not committed.
"""

from __future__ import annotations

from conclave.db import Database
from conclave.errors import ConclaveError
from conclave.logging import get_logger
from conclave.ports.workspaces import WorkspaceStore
from conclave.workspaces.remains import RemainsRepository
from schema.domain.workspaces import task_branch, task_of, task_place

_AT_ONCE = 20
_log = get_logger(__name__)


class WorktreeRemoval:
    """A `Chore`."""

    def __init__(self, db: Database, store: WorkspaceStore) -> None:
        self._db = db
        self._store = store
        self._remains = RemainsRepository()

    async def run(self) -> int:
        """Remove some; return how many."""
        found = (task_of(name) for name in await self._store.names())
        ids = [task_id for task_id in found if task_id is not None]
        async with self._db.autocommit() as tx:
            needed = await self._remains.needed_tasks(tx, ids)
        done = 0
        for task_id in ids:
            if task_id not in needed:
                done += await self.remove(task_id)
            if done >= _AT_ONCE:
                break
        return done

    async def remove(self, task_id: int) -> bool:
        """Remove a task's workspace; False where its commits cannot be shown first.

        May be repeated. What was not committed is gone.
        """
        name = task_place(task_id)
        async with self._db.autocommit() as tx:
            project_id = await self._remains.project_of(tx, task_id)
        if project_id is not None:
            try:
                await self._store.show(name, of=str(project_id), branch=task_branch(task_id))
            except ConclaveError as error:
                _log.warning("a task's workspace is kept", task_id=task_id, error=error.code)
                return False
        await self._store.remove(name)
        return True

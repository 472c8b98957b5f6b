"""What files leave behind: bytes that no row names, and files that are older than they are kept."""

from __future__ import annotations

from conclave.db import Database
from conclave.files.repository import FileRepository
from conclave.files.rules import StorageSettings, rules_in_force
from conclave.files.service import FileService
from conclave.ports.blobs import BlobStore
from schema.domain.identity import SYSTEM_PRINCIPAL

_AT_ONCE = 50


class FileUpkeep:
    """A `Chore`. It looks at the name of every content there is, so it runs by the hour."""

    def __init__(
        self, db: Database, files: FileService, blobs: BlobStore, settings: StorageSettings
    ) -> None:
        self._db = db
        self._service = files
        self._blobs = blobs
        self._settings = settings
        self._files = FileRepository()

    async def run(self) -> int:
        """Remove some; return how many."""
        return await self._old() or await self._strays() or await self._blobs.sweep()

    async def _old(self) -> int:
        days = (await rules_in_force(self._settings)).days
        if not days:
            return 0
        async with self._db.transaction() as tx:
            old = await self._files.older_than(tx, days, _AT_ONCE)
            for file in old:
                await self._service.remove_row(tx, file, principal=SYSTEM_PRINCIPAL)
        for file in old:
            await self._service.let_go(file.sha256)
        return len(old)

    async def _strays(self) -> int:
        done = 0
        async for names in self._blobs.names():
            async with self._db.autocommit() as tx:
                strays = set(names) - await self._files.named(tx, names)
            for sha256 in sorted(strays)[: _AT_ONCE - done]:
                done += await self._service.let_go(sha256)
            if done >= _AT_ONCE:
                break
        return done

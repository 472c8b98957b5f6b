"""Reading the audit log."""

from __future__ import annotations

from collections.abc import Sequence

from conclave.audit.commands import AuditFilter
from conclave.audit.repository import AuditRepository
from conclave.db import Database
from schema.domain.audit import AuditEntry


class AuditService:
    """Entries are only read here; `conclave.auditing` writes them."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._repository = AuditRepository()

    async def list(
        self, wanted: AuditFilter, limit: int, offset: int
    ) -> tuple[Sequence[AuditEntry], int]:
        """Return a piece of the log, newest first, and the number of entries that fit."""
        async with self._db.transaction() as tx:
            return await self._repository.list(tx, wanted, limit, offset)

"""The sandbox's settings: stored, and believed for a second once read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from pydantic import JsonValue

from conclave.auditing import AuditLog, changed
from conclave.believed import Believed
from conclave.db import Database
from conclave.errors import Invalid
from conclave.merging import merge
from conclave.ports.tools import Sandbox
from conclave.tools.sandbox_repository import SandboxConfigRepository
from schema.domain.sandbox import SandboxConfig, SandboxStatus

_FIELD = "sandbox"


class SandboxConfigService:
    """Reads and changes what every command is held to."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        sandbox: Sandbox,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._audit = audit
        self._sandbox = sandbox
        self._repository = SandboxConfigRepository()
        self._config = Believed(self._read, SandboxConfig(), clock=clock)

    async def get(self) -> SandboxConfig:
        """Return what is in force, read at most a second ago. Raises `Unavailable`."""
        return await self._config.get()

    async def update(self, changes: Mapping[str, JsonValue]) -> SandboxConfig:
        """Change the given fields. Raises `Invalid` naming the one that does not fit."""
        async with self._db.transaction() as tx:
            await self._repository.lock(tx)
            before = await self._repository.get(tx)
            try:
                after = merge(SandboxConfig, before.model_dump(), changes, _FIELD)
            except Invalid as error:
                error.field = error.field.removeprefix(f"{_FIELD}.")
                raise
            differences = changed(before.model_dump(mode="json"), after.model_dump(mode="json"))
            if differences:
                await self._repository.store(tx, after)
                await self._audit.record(tx, "sandbox_updated", "sandbox", changes=differences)
            tx.after_commit.append(lambda: self._config.replace(after))
        return after

    async def status(self) -> SandboxStatus:
        """Return what is really used on this host."""
        return await self._sandbox.status()

    async def _read(self) -> SandboxConfig:
        async with self._db.aside() as tx:
            return await self._repository.get(tx)

"""The application's own settings: stored ones win over the environment."""

from __future__ import annotations

import logging

from pydantic import JsonValue
from sqlalchemy.engine import make_url

from conclave.auditing import AuditLog, changed
from conclave.db import Database
from conclave.errors import Invalid, Unavailable
from conclave.providers.commands import UpdateApplication
from conclave.providers.repository import ProviderRepository
from conclave.providers.shapes import ApplicationSettings, DatabaseInfo
from conclave.settings import Settings

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_CATEGORY = "application"


class ApplicationService:
    """Reads and changes them; a changed log level holds in this process at once."""

    def __init__(self, db: Database, audit: AuditLog, settings: Settings) -> None:
        self._db = db
        self._audit = audit
        self._settings = settings
        self._repository = ProviderRepository()

    async def get(self) -> ApplicationSettings:
        """Return what is in force; the environment's values while the database is away."""
        try:
            async with self._db.transaction() as tx:
                stored = await self._repository.settings(tx, _CATEGORY)
        except Unavailable:
            stored = {}
        return self._merged(stored)

    async def update(self, command: UpdateApplication) -> ApplicationSettings:
        """Store what was given. Raises `Invalid` for an unknown log level."""
        changes: dict[str, JsonValue] = {}
        if command.debug is not None:
            changes["debug"] = command.debug
        if command.log_level is not None:
            level = command.log_level.upper()
            if level not in LOG_LEVELS:
                raise Invalid("log_level", f"The log level must be one of {', '.join(LOG_LEVELS)}.")
            changes["log_level"] = level
        async with self._db.transaction() as tx:
            before = await self._repository.settings(tx, _CATEGORY)
            for key, value in changes.items():
                await self._repository.set(tx, f"{_CATEGORY}.{key}", value)
            stored = await self._repository.settings(tx, _CATEGORY)
            if changes:
                told = changed(before, stored)
                await self._audit.record(
                    tx, "settings_updated", "settings", _CATEGORY, changes=told
                )
        merged = self._merged(stored)
        if "log_level" in changes:
            logging.getLogger().setLevel(merged.log_level)
        return merged

    async def apply_log_level(self) -> None:
        """Let the stored log level hold in this process: called once at start."""
        logging.getLogger().setLevel((await self.get()).log_level)

    async def database(self) -> DatabaseInfo:
        """Return where the database is and whether it answers."""
        url = make_url(self._settings.sqlalchemy_url)
        host = url.host or url.query.get("host", "")
        port = url.port or url.query.get("port") or 5432
        return DatabaseInfo(
            host=host if isinstance(host, str) else ",".join(host),
            port=int(port) if isinstance(port, str | int) else 5432,
            name=url.database or "",
            user=url.username or "",
            is_connected=await self._is_connected(),
        )

    async def _is_connected(self) -> bool:
        try:
            async with self._db.transaction() as tx:
                await self._repository.ping(tx)
                return True
        except Unavailable:
            return False

    def _merged(self, stored: dict[str, JsonValue]) -> ApplicationSettings:
        debug, level = stored.get("debug"), stored.get("log_level")
        return ApplicationSettings(
            environment=self._settings.environment,
            debug=debug if isinstance(debug, bool) else self._settings.debug,
            log_level=level if isinstance(level, str) else self._settings.log_level.upper(),
        )

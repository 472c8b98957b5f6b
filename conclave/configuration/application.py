"""The application's own settings as the gathering dialect shows them: a view of the catalogue."""

from __future__ import annotations

import logging

from sqlalchemy.engine import make_url

from conclave.configuration.catalogue import DEBUG, LOG_LEVEL, LOG_LEVELS, Setting
from conclave.configuration.commands import UpdateApplication
from conclave.configuration.plain import PlainSettings
from conclave.configuration.repository import SettingRepository
from conclave.configuration.service import ConfigurationService
from conclave.configuration.shapes import ApplicationSettings, DatabaseInfo
from conclave.db import Database
from conclave.errors import Invalid, Unavailable
from conclave.settings import Settings
from schema.domain.settings import SettingValue


class ApplicationService:
    """Reads and changes them; a changed log level holds in this process at once."""

    def __init__(
        self,
        db: Database,
        plain: PlainSettings,
        configuration: ConfigurationService,
        settings: Settings,
    ) -> None:
        self._db = db
        self._plain = plain
        self._configuration = configuration
        self._settings = settings
        self._repository = SettingRepository()

    async def get(self) -> ApplicationSettings:
        """Return what is in force; as last known while the database is away."""
        kept = await self._plain.now()
        level = kept[LOG_LEVEL.name].value
        return ApplicationSettings(
            environment=self._settings.environment,
            debug=kept[DEBUG.name].value is True,
            log_level=str(level) if level in LOG_LEVELS else self._settings.log_level.upper(),
        )

    async def update(self, command: UpdateApplication) -> ApplicationSettings:
        """Store what was given. Raises `Invalid` for an unknown log level."""
        changes: dict[Setting, SettingValue | None] = {}
        if command.debug is not None:
            changes[DEBUG] = command.debug
        if command.log_level is not None:
            changes[LOG_LEVEL] = _level(command.log_level)
        if changes:
            await self._configuration.change(changes, {setting: setting.key for setting in changes})
        return await self.get()

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


def _level(text: str) -> SettingValue | None:
    try:
        return LOG_LEVEL.kind.parse(text)
    except ValueError as error:
        raise Invalid("log_level", f"The log level {error}.") from None

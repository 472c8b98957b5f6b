"""The settings that are rows of their own: stored ones over the environment over the catalogue."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from typing import cast

from pydantic import JsonValue

from conclave.believed import Believed
from conclave.configuration.catalogue import PLAIN
from conclave.configuration.repository import SettingRepository
from conclave.configuration.sealed import setting_context
from conclave.crypto import UndecipherableSecret
from conclave.db import Database, Transaction
from conclave.errors import EncryptionKeyMissing, Unavailable
from conclave.ports.secrets import SecretBox
from conclave.settings import Settings
from schema.domain.settings import KeptSetting, SettingValue

_BY_NAME = {setting.name: setting for setting in PLAIN}
_SEALED = "sealed"
"""A secret's row is {"sealed": base64}."""


class PlainSettings:
    """A `SettingHome`. What is in force is believed for a second."""

    def __init__(
        self,
        db: Database,
        box: SecretBox | None,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._box = box
        self._repository = SettingRepository()
        self._defaults = {
            **{setting.name: setting.default for setting in PLAIN},
            **_environment(settings),
        }
        self._rows: Believed[dict[str, JsonValue]] = Believed(self._read, {}, clock=clock)

    async def check(self, name: str, value: SettingValue | None) -> None:
        """Nothing to add: the catalogue's kinds judge these."""

    async def read(self, tx: Transaction) -> Mapping[str, KeptSetting]:
        """Return every one of them in force."""
        return self._in_force(await self._repository.read(tx, list(_BY_NAME)))

    async def store(self, tx: Transaction, name: str, value: SettingValue | None) -> None:
        """Store a value, sealed where it is a secret. Raises `EncryptionKeyMissing`."""
        if value is None:
            await self._repository.remove(tx, name)
        elif _BY_NAME[name].is_secret:
            await self._repository.store(tx, name, self._seal(name, str(value)))
        else:
            await self._repository.store(tx, name, value)
        tx.after_commit.append(self._rows.forget)

    async def current(self, *names: str) -> Mapping[str, KeptSetting]:
        """Return the named ones, read at most a second ago; last known without the database."""
        try:
            rows = await self._rows.get()
        except Unavailable:
            rows = self._rows.last
        return {name: self._kept(name, rows.get(name)) for name in names}

    async def now(self) -> Mapping[str, KeptSetting]:
        """Return what is in force just now, as last known while the database is away."""
        try:
            rows = await self._rows.refreshed()
        except Unavailable:
            rows = self._rows.last
        return self._in_force(rows)

    async def _read(self) -> dict[str, JsonValue]:
        async with self._db.aside() as tx:
            return await self._repository.read(tx, list(_BY_NAME))

    def _in_force(self, rows: Mapping[str, JsonValue]) -> dict[str, KeptSetting]:
        return {name: self._kept(name, rows.get(name)) for name in _BY_NAME}

    def _kept(self, name: str, stored: JsonValue) -> KeptSetting:
        if isinstance(stored, dict) and _BY_NAME[name].is_secret:
            return self._opened(name, stored)
        if isinstance(stored, str | int | float | bool):
            return KeptSetting(value=stored, is_stored=True)
        return KeptSetting(value=self._defaults[name], is_stored=False)

    def _opened(self, name: str, stored: Mapping[str, JsonValue]) -> KeptSetting:
        try:
            if self._box is None:
                raise EncryptionKeyMissing("A stored secret needs ENCRYPTION_KEY to be read.")
            sealed = base64.b64decode(str(stored.get(_SEALED)))
            value = self._box.open(sealed, context=setting_context(name))
        except (UndecipherableSecret, EncryptionKeyMissing, ValueError):
            return KeptSetting(value=None, is_stored=True, is_readable=False)
        return KeptSetting(value=value, is_stored=True)

    def _seal(self, name: str, value: str) -> JsonValue:
        if self._box is None:
            raise EncryptionKeyMissing("Secrets are stored encrypted: ENCRYPTION_KEY is not set.")
        sealed = self._box.seal(value, context=setting_context(name))
        return {_SEALED: base64.b64encode(sealed).decode()}


def _environment(settings: Settings) -> dict[str, SettingValue]:
    """Return what the environment says of them."""
    password = settings.smtp_password
    said = {
        "email.smtp_host": settings.smtp_host,
        "email.smtp_port": settings.smtp_port,
        "email.smtp_user": settings.smtp_user,
        "email.smtp_password": password.get_secret_value() if password is not None else None,
        "email.smtp_from": settings.smtp_from,
        "application.log_level": settings.log_level.upper(),
        "application.debug": settings.debug,
    }
    found = {name: value for name, value in said.items() if value not in {None, ""}}
    return cast("dict[str, SettingValue]", found)

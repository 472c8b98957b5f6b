"""The settings of the catalogue: shown, changed, and asked for by name."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from pydantic import JsonValue

from conclave.auditing import AuditLog
from conclave.configuration.catalogue import (
    BY_KEY,
    LISTED,
    LOG_LEVEL,
    MAINTENANCE_MODE,
    Home,
    Setting,
)
from conclave.configuration.errors import SettingNotFound
from conclave.configuration.kinds import WebUrl, show
from conclave.configuration.plain import PlainSettings
from conclave.configuration.repository import SettingRepository
from conclave.configuration.shapes import ShownSetting
from conclave.crypto import UndecipherableSecret
from conclave.db import Database, Transaction
from conclave.errors import Invalid
from conclave.ports.settings import SettingHome
from schema.domain.mail import MailSettings
from schema.domain.settings import KeptSetting, SettingValue

_HIDDEN = "****"
_MAIL = tuple(f"email.smtp_{part}" for part in ("host", "port", "user", "password", "from"))
Values = Mapping[Home, Mapping[str, KeptSetting]]


class ConfigurationService:
    """Every change is one transaction, whatever the homes of what it changes."""

    def __init__(
        self,
        db: Database,
        plain: PlainSettings,
        providers: SettingHome,
        security: SettingHome,
        audit: AuditLog,
    ) -> None:
        self._db = db
        self._plain = plain
        self._homes: dict[Home, SettingHome] = {
            Home.PLAIN: plain,
            Home.PROVIDERS: providers,
            Home.SECURITY: security,
        }
        self._audit = audit
        self._repository = SettingRepository()

    async def catalogue(self) -> dict[str, dict[str, ShownSetting]]:
        """Return all of them by category and key, secrets masked."""
        async with self._db.transaction() as tx:
            values = await self._read(tx)
        shown: dict[str, dict[str, ShownSetting]] = {}
        for setting in LISTED:
            shown.setdefault(setting.category, {})[setting.key] = _shown(setting, values)
        return shown

    async def set(self, category: str, key: str, text: str) -> ShownSetting:
        """Change one setting; its mask sent back changes nothing.

        Raises `SettingNotFound`, `Invalid`, `EncryptionKeyMissing`.
        """
        setting = BY_KEY.get(f"{category}.{key}")
        if setting is None:
            raise SettingNotFound(f"There is no setting {category[:64]}.{key[:64]}.")
        fields = {setting: "value"}
        await self.change({setting: _parse(setting, text, "value")}, fields)
        async with self._db.transaction() as tx:
            return _shown(setting, await self._read(tx))

    async def set_many(self, texts: Mapping[str, str]) -> int:
        """Change several by their full keys, or none; return how many.

        Raises `Invalid` naming the first that is unknown or wrong, `EncryptionKeyMissing`.
        """
        changes: dict[Setting, SettingValue | None] = {}
        fields: dict[Setting, str] = {}
        for full_key, text in texts.items():
            field = f"settings.{full_key}"
            setting = BY_KEY.get(full_key)
            if setting is None:
                raise Invalid(field, f"There is no setting {full_key[:129]}.")
            changes[setting], fields[setting] = _parse(setting, text, field), field
        return await self.change(changes, fields)

    async def change(
        self, changes: Mapping[Setting, SettingValue | None], fields: Mapping[Setting, str]
    ) -> int:
        """Store parsed values, all or none; return how many are not just masks sent back.

        `fields` says what the caller calls each. Raises `Invalid`, `EncryptionKeyMissing`.
        """
        for setting, value in changes.items():
            with _called(fields[setting]):
                await self._homes[setting.home].check(setting.name, value)
        async with self._db.transaction() as tx:
            await self._repository.lock(tx)
            before = await self._read(tx)
            meant = {
                setting: value
                for setting, value in changes.items()
                if not _is_mask(setting, value, before)
            }
            for setting, value in meant.items():
                with _called(fields[setting]):
                    await self._homes[setting.home].store(tx, setting.name, value)
            if meant:
                after = await self._read(tx)
                await self._record(tx, list(meant), before, after)
        if LOG_LEVEL in meant:
            logging.getLogger().setLevel(str(meant[LOG_LEVEL]))
        return len(meant)

    async def maintenance(self) -> bool:
        """Whether only administrators may write just now: as last known while nobody can say."""
        kept = await self._plain.current(MAINTENANCE_MODE.name)
        return kept[MAINTENANCE_MODE.name].value is True

    async def mail_settings(self) -> MailSettings | None:
        """Return how mail is sent, None where no server is set.

        Raises `UndecipherableSecret` where the stored password does not open.
        """
        kept = await self._plain.current(*_MAIL)
        if not kept["email.smtp_password"].is_readable:
            raise UndecipherableSecret("The stored mail password does not open.")
        host = _text(kept["email.smtp_host"])
        if host is None:
            return None
        port = kept["email.smtp_port"].value
        return MailSettings(
            host=host,
            port=port if isinstance(port, int) else 587,
            user=_text(kept["email.smtp_user"]),
            password=_text(kept["email.smtp_password"]),
            sender=_text(kept["email.smtp_from"]),
        )

    async def _read(self, tx: Transaction) -> Values:
        return {name: await home.read(tx) for name, home in self._homes.items()}

    async def _record(
        self, tx: Transaction, changed: list[Setting], before: Values, after: Values
    ) -> None:
        changes: dict[str, JsonValue] = {
            setting.full_key: _change(setting, before, after) for setting in changed
        }
        resource_id = changed[0].full_key if len(changed) == 1 else None
        await self._audit.record(tx, "settings_updated", "settings", resource_id, changes=changes)


@contextmanager
def _called(field: str) -> Generator[None]:
    """Let what a home refuses name the field as the caller did."""
    try:
        yield
    except Invalid as error:
        error.field = field
        raise


def _parse(setting: Setting, text: str, field: str) -> SettingValue | None:
    try:
        return setting.kind.parse(text)
    except ValueError as error:
        raise Invalid(field, f"{setting.full_key} {error}.") from None


def mask(secret: str) -> str:
    """Return the first and last four characters of a long secret, nothing of a short one."""
    return f"{secret[:4]}...{secret[-4:]}" if len(secret) >= 16 else _HIDDEN


def _displayed(setting: Setting, kept: KeptSetting) -> str:
    if not setting.is_secret:
        return show(kept.value)
    if kept.value is None:
        return "" if kept.is_readable else _HIDDEN
    return mask(str(kept.value))


def _is_mask(setting: Setting, value: SettingValue | None, before: Values) -> bool:
    if not setting.is_secret or value is None:
        return False
    return value == _displayed(setting, before[setting.home][setting.name])


def _shown(setting: Setting, values: Values) -> ShownSetting:
    kept = values[setting.home][setting.name]
    return ShownSetting(
        value=_displayed(setting, kept),
        description=setting.description,
        is_secret=setting.is_secret,
        is_default=not kept.is_stored,
    )


def _change(setting: Setting, before: Values, after: Values) -> JsonValue:
    """Return what the audit log may hold of a change."""
    if setting.is_secret:
        return {"secret": True}
    return {
        "before": _audited(setting, before[setting.home][setting.name]),
        "after": _audited(setting, after[setting.home][setting.name]),
    }


def _audited(setting: Setting, kept: KeptSetting) -> SettingValue | None:
    """Return a value; of a URL only where it leads, for webhooks carry tokens in their paths."""
    if isinstance(setting.kind, WebUrl) and isinstance(kept.value, str):
        parts = urlsplit(kept.value)
        return f"{parts.scheme}://{parts.netloc}"
    return kept.value


def _text(kept: KeptSetting) -> str | None:
    return kept.value if isinstance(kept.value, str) else None

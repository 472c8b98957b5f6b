"""Model providers: how they are reached, by stored settings first, by the environment else."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping
from datetime import datetime

from pydantic import JsonValue

from conclave.auditing import AuditLog, changed
from conclave.believed import Believed
from conclave.crypto import UndecipherableSecret, mask_key
from conclave.db import Database, Transaction
from conclave.errors import EncryptionKeyMissing
from conclave.ports import ModelCatalogue, ProviderProbe, SecretBox, UrlGuard
from conclave.providers.commands import UpdateProvider
from conclave.providers.defaults import DEFAULTS
from conclave.providers.errors import ProviderNotFound
from conclave.providers.repository import ProviderRepository
from conclave.providers.shapes import ProviderSettings, ProviderTest, StoredProvider
from schema.domain.providers import ProviderAccess, ProviderName
from schema.domain.settings import KeptSetting

_UNREADABLE = "..."


class ProviderService:
    """`access` is asked once a model call: it costs a query a second, and one opening a change."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        box: SecretBox | None,
        guard: UrlGuard,
        probe: ProviderProbe,
        catalogue: ModelCatalogue,
        environment: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._audit = audit
        self._box = box
        self._guard = guard
        self._probe = probe
        self._catalogue = catalogue
        self._repository = ProviderRepository()
        self._environment = {
            name: defaults.access(name, environment) for name, defaults in DEFAULTS.items()
        }
        self._stored: Believed[dict[str, StoredProvider]] = Believed(self._read, {}, clock=clock)
        self._opened: dict[str, tuple[datetime, str]] = {}

    async def access(self, provider: str) -> ProviderAccess:
        """Return how a provider is reached, its key in the clear.

        Raises `ProviderNotFound`, `EncryptionKeyMissing`, and `UndecipherableSecret` where the
        stored key was sealed with an encryption key that is gone.
        """
        name = _known(provider)
        stored = await self._stored.get()
        return self._access(name, stored.get(name.value))

    async def list(self) -> list[ProviderSettings]:
        """Return all providers, their keys masked."""
        async with self._db.transaction() as tx:
            stored = await self._repository.all(tx)
        return [self._shown(name, stored.get(name.value)) for name in ProviderName]

    async def update(self, provider: str, command: UpdateProvider) -> ProviderSettings:
        """Store what was given; null clears. Raises `UrlRefused`, `EncryptionKeyMissing`."""
        name = _known(provider)
        await self.check(command)
        async with self._db.transaction() as tx:
            before = await self._repository.all(tx)
            await self.store(tx, provider, command)
            stored = await self._repository.all(tx)
            if command.model_fields_set:
                changes = _changes(
                    before.get(name.value), stored.get(name.value), command.model_fields_set
                )
                await self._audit.record(
                    tx, "provider_updated", "provider", name.value, changes=changes
                )
        return self._shown(name, stored.get(name.value))

    async def check(self, command: UpdateProvider) -> None:
        """Raise `UrlRefused` for a base URL that may not be reached. Resolves its host."""
        if command.base_url is not None:
            await self._guard.check(command.base_url, field="base_url", administrator=True)

    async def store(self, tx: Transaction, provider: str, command: UpdateProvider) -> None:
        """Store what was given, already checked; it holds in this process once committed."""
        name = _known(provider)
        values: dict[str, bytes | str | None] = {}
        for column in command.model_fields_set:
            values[column] = getattr(command, column)
        if "api_key" in values:
            values["api_key"] = self._seal(name, command.api_key)
        if values:
            await self._repository.store(tx, name.value, values)
            tx.after_commit.append(self._stored.forget)

    async def kept(self, tx: Transaction) -> dict[tuple[ProviderName, str], KeptSetting]:
        """Return every provider's `api_key` (in the clear) and `base_url` in force."""
        rows = await self._repository.all(tx)
        found: dict[tuple[ProviderName, str], KeptSetting] = {}
        for name, environment in self._environment.items():
            stored = rows.get(name.value)
            found[name, "api_key"] = self._kept_key(stored, environment)
            url = stored.base_url if stored is not None else None
            found[name, "base_url"] = KeptSetting(
                value=url or environment.base_url, is_stored=url is not None
            )
        return found

    async def test(self, provider: str) -> ProviderTest:
        """Make one cheap call; a failure is an answer too."""
        name = _known(provider)
        stored = await self._stored.refreshed()
        try:
            access = self._access(name, stored.get(name.value))
        except UndecipherableSecret as error:
            return ProviderTest(success=False, message=error.message, models=[])
        if not access.is_configured:
            missing = "base URL" if name is ProviderName.OLLAMA else "API key"
            return ProviderTest(success=False, message=f"No {missing} is set", models=[])
        success, message, models = await self._probe.test(access)
        return ProviderTest(success=success, message=message, models=models)

    async def _read(self) -> dict[str, StoredProvider]:
        async with self._db.autocommit() as tx:
            return await self._repository.all(tx)

    def _access(self, name: ProviderName, stored: StoredProvider | None) -> ProviderAccess:
        access = self._environment[name]
        if stored is None:
            return access
        return ProviderAccess(
            provider=name,
            api_key=self._open(stored) or access.api_key,
            base_url=stored.base_url or access.base_url,
            default_model=stored.default_model or access.default_model,
        )

    def _shown(self, name: ProviderName, stored: StoredProvider | None) -> ProviderSettings:
        try:
            access = self._access(name, stored)
            masked = mask_key(access.api_key)
        except (UndecipherableSecret, EncryptionKeyMissing):
            # It is shown that there is a key; what is wrong with it, a test or a call says.
            access = self._environment[name]
            masked = _UNREADABLE
        default_model = stored.default_model if stored is not None else None
        base_url = stored.base_url if stored is not None else None
        return ProviderSettings(
            provider=name,
            api_key=masked,
            base_url=base_url or access.base_url,
            default_model=default_model or access.default_model,
            is_configured=bool(masked or base_url or access.base_url),
            models=[*self._catalogue.models(name.value)],
        )

    def _kept_key(self, stored: StoredProvider | None, environment: ProviderAccess) -> KeptSetting:
        if stored is None or stored.api_key is None:
            return KeptSetting(value=environment.api_key, is_stored=False)
        try:
            return KeptSetting(value=self._open(stored), is_stored=True)
        except (UndecipherableSecret, EncryptionKeyMissing):
            return KeptSetting(value=None, is_stored=True, is_readable=False)

    def _open(self, stored: StoredProvider) -> str | None:
        if stored.api_key is None:
            return None
        opened = self._opened.get(stored.name)
        if opened is None or opened[0] != stored.updated_at:
            if self._box is None:
                raise EncryptionKeyMissing("A stored API key needs ENCRYPTION_KEY to be read.")
            key = self._box.open(stored.api_key, context=_context(stored.name))
            opened = self._opened[stored.name] = (stored.updated_at, key)
        return opened[1]

    def _seal(self, name: ProviderName, key: str | None) -> bytes | None:
        if key is None:
            return None
        if self._box is None:
            raise EncryptionKeyMissing("API keys are stored encrypted: ENCRYPTION_KEY is not set.")
        return self._box.seal(key, context=_context(name.value))


def _changes(
    before: StoredProvider | None, after: StoredProvider | None, given: Container[str]
) -> dict[str, JsonValue]:
    """Return what the audit log tells. Of a key only that one was given: it is sealed anew each
    time, so that nobody can say whether it is another."""
    changes = changed(_columns(before), _columns(after))
    if "api_key" in given:
        changes["api_key"] = {
            "before": "***" if before is not None and before.api_key else None,
            "after": "***" if after is not None and after.api_key else None,
        }
    return changes


def _columns(stored: StoredProvider | None) -> dict[str, JsonValue]:
    if stored is None:
        return {}
    return {"base_url": stored.base_url, "default_model": stored.default_model}


def _known(provider: str) -> ProviderName:
    try:
        return ProviderName(provider)
    except ValueError:
        raise ProviderNotFound(f"There is no provider named {provider[:64]!r}.") from None


def _context(name: str) -> str:
    return f"provider:{name}"

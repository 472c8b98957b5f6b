"""Model providers: how they are reached, by stored settings first, by the environment else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Mapping
from datetime import datetime

from pydantic import JsonValue

from conclave.auditing import AuditLog, changed
from conclave.crypto import UndecipherableSecret, mask_key
from conclave.db import Database
from conclave.ports import ModelCatalogue, ProviderProbe, SecretBox, UrlGuard
from conclave.providers.application import ApplicationService
from conclave.providers.commands import UpdateProvider
from conclave.providers.defaults import DEFAULTS
from conclave.providers.errors import EncryptionKeyMissing, ProviderNotFound
from conclave.providers.repository import ProviderRepository
from conclave.providers.shapes import ProviderSettings, ProviderTest, StoredProvider
from conclave.settings import Settings
from schema.domain.providers import ProviderAccess, ProviderName

FRESH_SECONDS = 1.0
"""How long rows that were read are believed: a changed key holds everywhere a second later."""
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
        settings: Settings,
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
        self._clock = clock
        self._environment = {
            name: defaults.access(name, environment) for name, defaults in DEFAULTS.items()
        }
        self._stored: dict[str, StoredProvider] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._opened: dict[str, tuple[datetime, str]] = {}
        self.application = ApplicationService(db, audit, settings)

    async def access(self, provider: str) -> ProviderAccess:
        """Return how a provider is reached, its key in the clear.

        Raises `ProviderNotFound`, `EncryptionKeyMissing`, and `UndecipherableSecret` where the
        stored key was sealed with an encryption key that is gone.
        """
        name = _known(provider)
        if self._clock() - self._read_at >= FRESH_SECONDS:
            await self._refresh()
        return self._access(name, self._stored.get(name.value))

    async def list(self) -> list[ProviderSettings]:
        """Return all providers, their keys masked."""
        async with self._db.transaction() as tx:
            stored = await self._repository.all(tx)
        return [self._shown(name, stored.get(name.value)) for name in ProviderName]

    async def update(self, provider: str, command: UpdateProvider) -> ProviderSettings:
        """Store what was given; null clears. Raises `UrlRefused`, `EncryptionKeyMissing`."""
        name = _known(provider)
        values: dict[str, bytes | str | None] = {}
        given = command.model_fields_set
        if "api_key" in given:
            values["api_key"] = self._seal(name, command.api_key)
        if "base_url" in given:
            values["base_url"] = command.base_url
            if command.base_url is not None:
                await self._guard.check(command.base_url, field="base_url", administrator=True)
        if "default_model" in given:
            values["default_model"] = command.default_model
        async with self._db.transaction() as tx:
            before = await self._repository.all(tx)
            if values:
                await self._repository.store(tx, name.value, values)
            stored = await self._repository.all(tx)
            if values:
                changes = _changes(before.get(name.value), stored.get(name.value), values)
                await self._audit.record(
                    tx, "provider_updated", "provider", name.value, changes=changes
                )
        self._believe(stored)
        return self._shown(name, stored.get(name.value))

    async def test(self, provider: str) -> ProviderTest:
        """Make one cheap call; a failure is an answer too."""
        name = _known(provider)
        await self._refresh()
        try:
            access = self._access(name, self._stored.get(name.value))
        except UndecipherableSecret as error:
            return ProviderTest(success=False, message=error.message, models=[])
        if not access.is_configured:
            missing = "base URL" if name is ProviderName.OLLAMA else "API key"
            return ProviderTest(success=False, message=f"No {missing} is set", models=[])
        success, message, models = await self._probe.test(access)
        return ProviderTest(success=success, message=message, models=models)

    async def _refresh(self) -> None:
        """Read the rows once for everybody who waits."""
        asked_at = self._clock()
        async with self._reading:
            if self._read_at >= asked_at:
                return
            async with self._db.transaction() as tx:
                stored = await self._repository.all(tx)
            self._believe(stored)

    def _believe(self, stored: dict[str, StoredProvider]) -> None:
        self._stored = stored
        self._read_at = self._clock()

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

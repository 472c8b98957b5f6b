"""Model providers: how they are reached, by stored settings first, by the environment else."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from conclave.auditing import AuditLog, changed
from conclave.believed import Believed
from conclave.crypto import UndecipherableSecret, mask_key
from conclave.db import Database, Transaction
from conclave.errors import EncryptionKeyMissing, SecretNotUsable
from conclave.ports.models import ModelCatalogue, ProviderProbe
from conclave.ports.secrets import SecretBox, SecretReferences
from conclave.ports.urls import UrlGuard
from conclave.provider_keys import SealedKeys, as_key
from conclave.providers.commands import UpdateProvider
from conclave.providers.defaults import DEFAULTS, DEMO, DEMO_ACCESS
from conclave.providers.errors import ProviderNotFound
from conclave.providers.repository import ProviderRepository, key_context
from conclave.providers.shapes import ProviderSettings, ProviderTest, StoredProvider
from schema.domain.providers import ProviderAccess, ProviderName
from schema.domain.secrets import reference_to, referenced_name
from schema.domain.settings import KeptSetting

_UNREADABLE = "..."


class _Known(NamedTuple):
    """What was read: the rows, and what the references among their keys stand for."""

    stored: Mapping[str, StoredProvider]
    resolved: Mapping[str, str | SecretNotUsable]


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
        references: SecretReferences,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._audit = audit
        self._keys = SealedKeys(box, key_context)
        self._guard = guard
        self._probe = probe
        self._catalogue = catalogue
        self._references = references
        self._repository = ProviderRepository()
        self._environment = {
            name: defaults.access(name, environment) for name, defaults in DEFAULTS.items()
        }
        self._known = Believed(self._read, _Known({}, {}), clock=clock)

    async def access(self, provider: str) -> ProviderAccess:
        """Return how a provider is reached, its key in the clear.

        Raises `ProviderNotFound`, `EncryptionKeyMissing`, `SecretNotUsable` where the key is a
        reference that cannot be used, and `UndecipherableSecret` where the stored key was sealed
        with an encryption key that is gone.
        """
        if provider == DEMO[0]:
            return DEMO_ACCESS
        name = _known(provider)
        return self._access(name, await self._known.get())

    async def list(self) -> list[ProviderSettings]:
        """Return all providers, their keys masked."""
        async with self._db.transaction() as tx:
            stored = await self._repository.all(tx)
        return [self._shown(name, stored.get(name.value)) for name in ProviderName]

    async def update(self, provider: str, command: UpdateProvider) -> ProviderSettings:
        """Store what was given; null clears.

        Raises `UrlRefused`, `EncryptionKeyMissing`, `Invalid` for a key that refers to a secret
        which is unknown or has expired.
        """
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
        """Store what was given, already checked; it holds in this process once committed.

        A key `secret://name` is kept as the reference it is. Raises as `update` does.
        """
        name = _known(provider)
        given = command.model_fields_set
        values: dict[str, bytes | str | None] = {
            column: getattr(command, column) for column in given if column != "api_key"
        }
        if "api_key" in given:
            secret_name = referenced_name(command.api_key or "")
            if secret_name is not None:
                await self._references.require(tx, command.api_key or "", field="api_key")
            key = command.api_key if secret_name is None else None
            values |= {"api_key": self._keys.seal(name.value, key), "secret_name": secret_name}
        if values:
            await self._repository.store(tx, name.value, values)
            tx.after_commit.append(self._known.forget)

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
        known = await self._known.refreshed()
        try:
            access = self._access(name, known)
        except (SecretNotUsable, UndecipherableSecret) as error:
            return ProviderTest(success=False, message=error.message, models=[])
        if not access.is_configured:
            missing = "base URL" if name is ProviderName.OLLAMA else "API key"
            return ProviderTest(success=False, message=f"No {missing} is set", models=[])
        success, message, models = await self._probe.test(access)
        return ProviderTest(success=success, message=message, models=models)

    async def uses_of(self, tx: Transaction, name: str) -> Sequence[str]:
        """Return the providers whose stored key is this secret."""
        return [f"provider {found}" for found in await self._repository.using_secret(tx, name)]

    async def _read(self) -> _Known:
        async with self._db.aside() as tx:
            stored = await self._repository.all(tx)
            return _Known(stored, await self._resolve(tx, stored))

    async def _resolve(
        self, tx: Transaction, stored: Mapping[str, StoredProvider]
    ) -> dict[str, str | SecretNotUsable]:
        """Read what the providers' references stand for, on the connection at hand."""
        resolved: dict[str, str | SecretNotUsable] = {}
        for name in ProviderName:
            text = _reference(stored.get(name.value), self._environment[name])
            if text is not None and text not in resolved:
                try:
                    resolved[text] = as_key(await self._references.resolve(text, tx=tx), text)
                except SecretNotUsable as error:
                    resolved[text] = error
        return resolved

    def _access(self, name: ProviderName, known: _Known) -> ProviderAccess:
        access, stored = self._environment[name], known.stored.get(name.value)
        key = _reference(stored, access) or self._open(stored) or access.api_key
        if key is not None and referenced_name(key) is not None:
            resolved = known.resolved.get(key)
            if not isinstance(resolved, str):
                raise resolved or SecretNotUsable(f"{key[:300]} has not been read yet")
            key = resolved
        return ProviderAccess(
            provider=name,
            api_key=key,
            base_url=(stored and stored.base_url) or access.base_url,
            default_model=(stored and stored.default_model) or access.default_model,
        )

    def _shown(self, name: ProviderName, stored: StoredProvider | None) -> ProviderSettings:
        access = self._environment[name]
        try:
            masked = _reference(stored, access) or mask_key(self._open(stored) or access.api_key)
        except (UndecipherableSecret, EncryptionKeyMissing):
            # It is shown that there is a key; what is wrong with it, a test or a call says.
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
        reference = _reference(stored, environment)
        if reference is not None:
            is_stored = stored is not None and stored.secret_name is not None
            return KeptSetting(value=reference, is_stored=is_stored)
        if stored is None or stored.api_key is None:
            return KeptSetting(value=environment.api_key, is_stored=False)
        try:
            return KeptSetting(value=self._open(stored), is_stored=True)
        except (UndecipherableSecret, EncryptionKeyMissing):
            return KeptSetting(value=None, is_stored=True, is_readable=False)

    def _open(self, stored: StoredProvider | None) -> str | None:
        if stored is None:
            return None
        return self._keys.open(stored.name, stored.api_key, stored.updated_at)


def _changes(
    before: StoredProvider | None, after: StoredProvider | None, given: Container[str]
) -> dict[str, JsonValue]:
    """Return what the audit log tells. Of a key only that one was given: it is sealed anew each
    time, so that nobody can say whether it is another."""
    changes = changed(_columns(before), _columns(after))
    if "api_key" in given:
        changes["api_key"] = {"before": _told_key(before), "after": _told_key(after)}
    return changes


def _told_key(stored: StoredProvider | None) -> str | None:
    if stored is None:
        return None
    if stored.secret_name is not None:
        return reference_to(stored.secret_name)
    return "***" if stored.api_key else None


def _columns(stored: StoredProvider | None) -> dict[str, JsonValue]:
    if stored is None:
        return {}
    return {"base_url": stored.base_url, "default_model": stored.default_model}


def _known(provider: str) -> ProviderName:
    try:
        return ProviderName(provider)
    except ValueError:
        raise ProviderNotFound(f"There is no provider named {provider[:64]!r}.") from None


def _reference(stored: StoredProvider | None, environment: ProviderAccess) -> str | None:
    """Return the reference that is the provider's key, None where its key is none."""
    if stored is not None and stored.secret_name is not None:
        return reference_to(stored.secret_name)
    if stored is not None and stored.api_key is not None:
        return None
    key = environment.api_key
    return key if key is not None and referenced_name(key) is not None else None

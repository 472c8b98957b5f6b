"""Model providers: how they are reached, by stored settings first, by the environment else."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from conclave.crypto import UndecipherableSecret, mask_key
from conclave.db import Database, Transaction
from conclave.errors import EncryptionKeyMissing, SecretNotUsable
from conclave.ports import ModelCatalogue, ProviderProbe, SecretBox, SecretReferences, UrlGuard
from conclave.providers.application import ApplicationService
from conclave.providers.commands import UpdateProvider
from conclave.providers.defaults import DEFAULTS
from conclave.providers.errors import ProviderNotFound
from conclave.providers.repository import ProviderRepository, key_context
from conclave.providers.shapes import ProviderSettings, ProviderTest, StoredProvider
from conclave.settings import Settings
from schema.domain.providers import ProviderAccess, ProviderName
from schema.domain.secrets import reference_to, referenced_name

FRESH_SECONDS = 1.0
"""How long rows that were read are believed: a changed key holds everywhere a second later."""
_UNREADABLE = "..."
_KEY = re.compile(r"[!-~]+")


class ProviderService:
    """`access` is asked once a model call: it costs a query a second, and one opening a change."""

    def __init__(
        self,
        db: Database,
        box: SecretBox | None,
        guard: UrlGuard,
        probe: ProviderProbe,
        catalogue: ModelCatalogue,
        environment: Mapping[str, str],
        settings: Settings,
        references: SecretReferences,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._box = box
        self._guard = guard
        self._probe = probe
        self._catalogue = catalogue
        self._repository = ProviderRepository()
        self._clock = clock
        self._references = references
        self._environment = {
            name: defaults.access(name, environment) for name, defaults in DEFAULTS.items()
        }
        self._stored: dict[str, StoredProvider] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._opened: dict[str, tuple[datetime, str]] = {}
        self._resolved: dict[str, str | SecretNotUsable] = {}
        """What references stand for, as of when the rows were read."""
        self.application = ApplicationService(db, settings)

    async def access(self, provider: str) -> ProviderAccess:
        """Return how a provider is reached, its key in the clear.

        Raises `ProviderNotFound`, `EncryptionKeyMissing`, `SecretNotUsable` where the key is a
        reference that cannot be used, and `UndecipherableSecret` where the stored key was sealed
        with an encryption key that is gone.
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
        """Store what was given; null clears.

        Raises `UrlRefused`, `EncryptionKeyMissing`, `Invalid` for a key that refers to a secret
        which is unknown or has expired.
        """
        name = _known(provider)
        values: dict[str, bytes | str | None] = {}
        given = command.model_fields_set
        secret_name = referenced_name(command.api_key or "")
        if "api_key" in given:
            key = command.api_key if secret_name is None else None
            values |= {"api_key": self._seal(name, key), "secret_name": secret_name}
        if "base_url" in given:
            values["base_url"] = command.base_url
            if command.base_url is not None:
                await self._guard.check(command.base_url, field="base_url", administrator=True)
        if "default_model" in given:
            values["default_model"] = command.default_model
        async with self._db.transaction() as tx:
            if secret_name is not None:
                await self._references.require(tx, command.api_key or "", field="api_key")
            if values:
                await self._repository.store(tx, name.value, values)
            stored = await self._repository.all(tx)
        self._read_at = float("-inf")  # the next call reads it, and what references stand for
        return self._shown(name, stored.get(name.value))

    async def test(self, provider: str) -> ProviderTest:
        """Make one cheap call; a failure is an answer too."""
        name = _known(provider)
        await self._refresh()
        try:
            access = self._access(name, self._stored.get(name.value))
        except (SecretNotUsable, UndecipherableSecret) as error:
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
                resolved = await self._resolve(tx, stored)
            self._stored, self._resolved, self._read_at = stored, resolved, self._clock()

    async def _resolve(
        self, tx: Transaction, stored: Mapping[str, StoredProvider]
    ) -> dict[str, str | SecretNotUsable]:
        """Read what the providers' references stand for, on the connection at hand."""
        resolved: dict[str, str | SecretNotUsable] = {}
        for name in ProviderName:
            text = _reference(stored.get(name.value), self._environment[name])
            if text is not None and text not in resolved:
                try:
                    resolved[text] = _as_key(await self._references.resolve(text, tx=tx), text)
                except SecretNotUsable as error:
                    resolved[text] = error
        return resolved

    async def uses_of(self, tx: Transaction, name: str) -> Sequence[str]:
        """Return the providers whose stored key is this secret."""
        return [f"provider {found}" for found in await self._repository.using_secret(tx, name)]

    def _access(self, name: ProviderName, stored: StoredProvider | None) -> ProviderAccess:
        access = self._environment[name]
        key = _reference(stored, access) or self._open(stored) or access.api_key
        if key is not None and referenced_name(key) is not None:
            resolved = self._resolved.get(key)
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

    def _open(self, stored: StoredProvider | None) -> str | None:
        if stored is None or stored.api_key is None:
            return None
        opened = self._opened.get(stored.name)
        if opened is None or opened[0] != stored.updated_at:
            if self._box is None:
                raise EncryptionKeyMissing("A stored API key needs ENCRYPTION_KEY to be read.")
            key = self._box.open(stored.api_key, context=key_context(stored.name))
            opened = self._opened[stored.name] = (stored.updated_at, key)
        return opened[1]

    def _seal(self, name: ProviderName, key: str | None) -> bytes | None:
        if key is None:
            return None
        if self._box is None:
            raise EncryptionKeyMissing("API keys are stored encrypted: ENCRYPTION_KEY is not set.")
        return self._box.seal(key, context=key_context(name.value))


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


def _as_key(value: str, reference: str) -> str:
    """Return the secret as it can stand in a header.

    What cannot is refused here: an HTTP client would quote it in its complaint.
    """
    key = value.strip()
    if _KEY.fullmatch(key) is None:
        raise SecretNotUsable(f"{reference[:300]} holds characters that an API key cannot have")
    return key

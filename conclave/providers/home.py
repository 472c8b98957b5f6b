"""The providers' keys and base URLs as settings of the catalogue: the same rows, by name."""

from __future__ import annotations

from collections.abc import Mapping

from conclave.db import Transaction
from conclave.providers.commands import UpdateProvider
from conclave.providers.service import ProviderService
from schema.domain.settings import KeptSetting, SettingValue


class ProviderSettingHome:
    """A `SettingHome`. Names are `openai.api_key`, `ollama.base_url` and the like."""

    def __init__(self, providers: ProviderService) -> None:
        self._providers = providers

    async def check(self, name: str, value: SettingValue | None) -> None:
        """Raise `UrlRefused` for a base URL that may not be reached."""
        await self._providers.check(_change(name, value)[1])

    async def read(self, tx: Transaction) -> Mapping[str, KeptSetting]:
        """Return what is in force: stored, or from the environment."""
        kept = await self._providers.kept(tx)
        return {f"{provider.value}.{column}": one for (provider, column), one in kept.items()}

    async def store(self, tx: Transaction, name: str, value: SettingValue | None) -> None:
        """Store one column. Raises `EncryptionKeyMissing`."""
        provider, command = _change(name, value)
        await self._providers.store(tx, provider, command)


def _change(name: str, value: SettingValue | None) -> tuple[str, UpdateProvider]:
    provider, _, column = name.partition(".")
    return provider, UpdateProvider.model_validate({column: value})

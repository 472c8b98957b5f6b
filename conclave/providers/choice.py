"""Which model an agent gets that names none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from conclave.providers.service import ProviderService
from schema.domain.providers import ProviderName
from schema.domain.settings import KeptSetting

_PROVIDER, _MODEL = "llm.default_provider", "llm.default_model"


class NamedSettings(Protocol):
    """Settings, asked for by name."""

    async def current(self, *names: str) -> Mapping[str, KeptSetting]:
        """Return the named ones in force."""
        ...


class DefaultModel:
    """A `ModelDefaults`: the settings `llm.default_*`, else the first provider that is set up."""

    def __init__(self, providers: ProviderService, settings: NamedSettings) -> None:
        self._providers = providers
        self._settings = settings

    async def model(self) -> tuple[ProviderName, str]:
        """Return provider and model. Where nothing is set up the first provider there is."""
        kept = await self._settings.current(_PROVIDER, _MODEL)
        named, model = kept[_PROVIDER].value, kept[_MODEL].value
        known = await self._providers.list()
        chosen = next((one for one in known if one.provider.value == named), None)
        if chosen is not None:
            return chosen.provider, str(model or chosen.default_model)
        chosen = next((one for one in known if one.is_configured), known[0])
        return chosen.provider, chosen.default_model

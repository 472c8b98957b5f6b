"""Which model an agent gets that names none."""

from __future__ import annotations

from conclave.ports.settings import NamedSettings
from conclave.providers.defaults import DEMO
from conclave.providers.service import ProviderService
from schema.domain.agents import AgentProvider
from schema.domain.providers import ProviderName

_PROVIDER, _MODEL = "llm.default_provider", "llm.default_model"


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

    async def of_agent(self, provider: AgentProvider | None) -> tuple[AgentProvider, str]:
        """Return a provider and its model for an agent: of the named one, else the default one.

        Where nothing is set and none has a key that is the demo provider.
        """
        known = await self._providers.list()
        if provider is None:
            kept = await self._settings.current(_PROVIDER)
            if kept[_PROVIDER].value is None and not any(one.is_configured for one in known):
                return DEMO
            return await self.model()
        if provider == DEMO[0]:
            return DEMO
        return provider, next(one.default_model for one in known if one.provider == provider)

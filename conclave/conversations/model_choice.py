"""Which model speaks: a chat's profile where it has one, the agent's own model else."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pydantic import Field

from conclave.ports.models import ModelCatalogue, ProfileDirectory, ProviderDirectory
from schema.domain.base import Shape
from schema.domain.compaction import COMPACTION_THRESHOLD
from schema.domain.profiles import ProfileAccess
from schema.domain.providers import ProviderAccess

DEFAULT_WINDOW = 128_000
"""Tokens, for a model the price map does not know."""
_RESERVED_SHARE = 8
"""A window's eighth, at most, is kept free for the reply."""
_LONGEST_CIRCUIT = 100
_UNFIT = re.compile(r"[^a-z0-9_.:-]")


class ModelChoice(Shape):
    """A model, how it is reached and what fits into it. Holds a key: never log or return it."""

    provider: str
    model: str
    access: ProviderAccess = Field(repr=False)
    window: int
    """Tokens of prompt and reply together."""
    max_output_tokens: int | None
    circuit: str
    """The breaker its calls are made under: `llm:<provider>`; another where a profile has an
    address of its own, which says nothing of the provider."""
    fallback_for: str | None = None
    """The model that was wanted, where this one stands in for it."""

    @property
    def label(self) -> str:
        """The model as the ledger and events name it: `provider/model`."""
        return f"{self.provider}/{self.model}"

    @property
    def threshold(self) -> int:
        """The size of prompt past which a conversation is compacted."""
        return int(self.window * COMPACTION_THRESHOLD)

    def reply_tokens(self, wanted: int) -> int:
        """Return how long a reply may be, as far as the model goes."""
        return min(wanted, self.max_output_tokens or wanted)

    def limit(self, wanted: int) -> int:
        """Return the size that no prompt passes, so that a reply fits in behind it."""
        return self.window - min(self.reply_tokens(wanted), self.window // _RESERVED_SHARE)


class ModelChooser:
    """Asked at every model call, so that a change of profile holds from the next one on.

    An agent always has a provider and a model of its own (`agents.service` fills in the
    platform's), so that is what a chat without a profile speaks with.
    """

    def __init__(
        self,
        providers: ProviderDirectory,
        catalogue: ModelCatalogue,
        profiles: ProfileDirectory | None = None,
    ) -> None:
        self._providers = providers
        self._catalogue = catalogue
        self._profiles = profiles

    async def choose(self, profile: str | None, provider: str, model: str) -> ModelChoice:
        """Return the profile's model, or the agent's own where there is no such profile.

        Raises what `ProfileDirectory.access` and `ProviderDirectory.access` raise.
        """
        chosen = None
        if profile is not None and self._profiles is not None:
            chosen = await self._profiles.access(profile)
        if chosen is None:
            access = await self._providers.access(provider)
            return self._choice(access, provider, model, None)
        access = await self._providers.access(chosen.provider.value)
        return self._choice(_under(chosen, access), chosen.provider.value, chosen.model, chosen)

    def _choice(
        self, access: ProviderAccess, provider: str, model: str, profile: ProfileAccess | None
    ) -> ModelChoice:
        window = profile.context_window if profile is not None else None
        return ModelChoice(
            provider=provider,
            model=model,
            access=access,
            window=window or self._catalogue.context_window(access, model) or DEFAULT_WINDOW,
            max_output_tokens=profile.max_output_tokens if profile is not None else None,
            circuit=_circuit(access, profile),
        )


def _circuit(access: ProviderAccess, profile: ProfileAccess | None) -> str:
    if not access.is_configured:
        return "llm:demo"  # which answers in its place
    name = f"llm:{access.provider.value}"
    if profile is None or profile.base_url is None:
        return name
    host = urlsplit(profile.base_url).netloc.rpartition("@")[2].lower()
    return f"{name}:{_UNFIT.sub('-', host)}"[:_LONGEST_CIRCUIT]


def _under(profile: ProfileAccess, access: ProviderAccess) -> ProviderAccess:
    """Return the provider's access under a profile.

    An address of the profile's own never gets the provider's key: whoever may write a profile
    could have it sent anywhere.
    """
    key = profile.api_key
    if key is None and profile.base_url is None:
        key = access.api_key
    if profile.base_url is None:
        return access.model_copy(update={"api_key": key})
    return access.model_copy(
        update={
            "api_key": key,
            "base_url": profile.base_url,
            "is_url_trusted": profile.is_url_trusted,
        }
    )

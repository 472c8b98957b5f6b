"""Model providers and how they are reached."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schema.domain.base import Shape


class ProviderName(StrEnum):
    """The providers known by name; each takes a base URL of its own."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    DEEPSEEK = "deepseek"
    MISTRAL = "mistral"
    GOOGLE = "google"
    OLLAMA = "ollama"


class ProviderAccess(Shape):
    """What a call to a provider needs. The key is in the clear: never log or return it."""

    provider: ProviderName
    api_key: str | None = Field(repr=False)
    base_url: str | None
    default_model: str
    is_url_trusted: bool = True
    """An administrator's word stands behind `base_url`, so that it may lead inside."""

    @property
    def is_configured(self) -> bool:
        """Whether calls can be made: a key, or a base URL of one's own."""
        return bool(self.api_key or self.base_url)


class ProviderModel(Shape):
    """A model of a provider, from the price map."""

    id: int
    model_name: str
    model_alias: str
    vision: bool
    extended_thinking: bool

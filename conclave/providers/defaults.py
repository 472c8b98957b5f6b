"""What holds for a provider when nothing is stored: environment names and default models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from schema.domain.agents import AgentProvider
from schema.domain.providers import ProviderAccess, ProviderName

DEMO: Final[tuple[AgentProvider, str]] = ("demo", "demo")
"""The provider that needs no key, and its model."""
DEMO_ACCESS = ProviderAccess(
    provider=ProviderName.OLLAMA, api_key=None, base_url=None, default_model=DEMO[1]
)
"""What is not set up is answered by the demo (`adapters.llm.routing`): nobody else is asked."""


@dataclass(frozen=True)
class Defaults:
    """The environment variables are read in order; the first that is set counts."""

    model: str
    keys: tuple[str, ...]
    base_urls: tuple[str, ...]

    def access(self, provider: ProviderName, environment: Mapping[str, str]) -> ProviderAccess:
        """Return how the environment says the provider is reached."""
        return ProviderAccess(
            provider=provider,
            api_key=_first(self.keys, environment),
            base_url=_first(self.base_urls, environment),
            default_model=self.model,
        )


DEFAULTS: dict[ProviderName, Defaults] = {
    ProviderName.ANTHROPIC: Defaults(
        "claude-sonnet-4-5", ("ANTHROPIC_API_KEY",), ("ANTHROPIC_BASE_URL",)
    ),
    ProviderName.OPENAI: Defaults("gpt-4o", ("OPENAI_API_KEY",), ("OPENAI_BASE_URL",)),
    ProviderName.DEEPSEEK: Defaults("deepseek-chat", ("DEEPSEEK_API_KEY",), ("DEEPSEEK_BASE_URL",)),
    ProviderName.MISTRAL: Defaults(
        "mistral-large-latest", ("MISTRAL_API_KEY",), ("MISTRAL_BASE_URL",)
    ),
    ProviderName.GOOGLE: Defaults(
        "gemini-2.5-flash",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        ("GEMINI_BASE_URL", "GOOGLE_BASE_URL"),
    ),
    ProviderName.OLLAMA: Defaults(
        "llama3.2", ("OLLAMA_API_KEY",), ("OLLAMA_BASE_URL", "OLLAMA_API_BASE")
    ),
}


def _first(names: tuple[str, ...], environment: Mapping[str, str]) -> str | None:
    return next((value for name in names if (value := environment.get(name, "").strip())), None)

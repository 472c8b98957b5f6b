"""How each provider is called: its name for people, litellm's name for it, its usual address."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from schema.domain.providers import ProviderAccess, ProviderName


@dataclass(frozen=True)
class Endpoint:
    """A provider; `prefix` is what litellm puts before the model name."""

    label: str
    prefix: str
    base_url: str


ENDPOINTS: dict[ProviderName, Endpoint] = {
    ProviderName.ANTHROPIC: Endpoint("Anthropic", "anthropic", "https://api.anthropic.com"),
    ProviderName.OPENAI: Endpoint("OpenAI", "openai", "https://api.openai.com/v1"),
    ProviderName.DEEPSEEK: Endpoint("DeepSeek", "deepseek", "https://api.deepseek.com"),
    ProviderName.MISTRAL: Endpoint("Mistral", "mistral", "https://api.mistral.ai/v1"),
    ProviderName.GOOGLE: Endpoint(
        "Google", "gemini", "https://generativelanguage.googleapis.com/v1beta"
    ),
    ProviderName.OLLAMA: Endpoint("Ollama", "ollama_chat", "http://localhost:11434"),
}


def base_url(access: ProviderAccess) -> str:
    """Return the address to build paths on, without a trailing slash.

    Anthropic's ends before `/v1`, Google's after `/v1beta`, the OpenAI-like ones after `/v1`
    where they have it, Ollama's at its root: people store either form.
    """
    url = (access.base_url or ENDPOINTS[access.provider].base_url).rstrip("/")
    match access.provider:
        case ProviderName.ANTHROPIC:
            return url.removesuffix("/v1")
        case ProviderName.OLLAMA:
            return url.removesuffix("/api").removesuffix("/v1")
        case ProviderName.GOOGLE if not urlsplit(url).path:
            return f"{url}/v1beta"
        case _:
            return url


def litellm_model(provider: ProviderName, model: str) -> str:
    """Return the model as litellm routes it."""
    prefix = f"{ENDPOINTS[provider].prefix}/"
    return model if model.startswith(prefix) else prefix + model

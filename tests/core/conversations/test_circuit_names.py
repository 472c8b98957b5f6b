"""Under which breaker a model is called."""

from __future__ import annotations

import re

import pytest

from conclave.conversations.model_choice import ModelChooser
from schema.domain.profiles import ProfileAccess
from schema.domain.providers import ProviderAccess, ProviderModel, ProviderName
from tests.fakes.profiles import Profiles, profile


class Catalogue:
    def models(self, provider: str) -> list[ProviderModel]:
        return []

    def context_window(self, access: ProviderAccess, model: str) -> int | None:
        return None


class Directory:
    """Knows one key for all providers, or none."""

    def __init__(self, api_key: str | None) -> None:
        self._key = api_key

    async def access(self, provider: str) -> ProviderAccess:
        name = ProviderName(provider)
        return ProviderAccess(provider=name, api_key=self._key, base_url=None, default_model="m")


async def circuit(used: ProfileAccess | None, *, api_key: str | None = "sk") -> str:
    profiles = Profiles()
    if used is not None:
        profiles.add(used)
    chooser = ModelChooser(Directory(api_key), Catalogue(), profiles)
    return (await chooser.choose("mine", "anthropic", "m")).circuit


async def test_a_provider_has_one_and_so_have_its_profiles():
    assert await circuit(None) == "llm:anthropic"
    assert await circuit(profile("mine", "gpt")) == "llm:openai"
    assert await circuit(profile("mine", "gpt", api_key="sk-own")) == "llm:openai"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://10.0.0.5:8080/v1", "10.0.0.5:8080"),
        ("https://LLM.example.org/v1", "llm.example.org"),
        ("https://name:password@llm.example.org", "llm.example.org"),
        ("http://[fe80::1]:80", "-fe80::1-:80"),
        (f"https://{'a' * 200}.example.org", "a" * 89),
    ],
)
async def test_an_address_of_a_profile_has_its_own(url: str, host: str):
    """What one person's server does not answer says nothing of the provider."""
    name = await circuit(profile("mine", "gpt", base_url=url, api_key="sk"))
    assert name == f"llm:openai:{host}"
    assert re.fullmatch(r"[a-z0-9][a-z0-9_.:-]{0,99}", name)


async def test_the_demo_answers_under_its_own_name():
    assert await circuit(None, api_key=None) == "llm:demo"

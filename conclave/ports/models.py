"""Calling models, and choosing which."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Protocol

from schema.domain.agents import AgentProvider
from schema.domain.compaction import Compacted, ContextUse
from schema.domain.identity import Principal
from schema.domain.llm import ModelReply, ModelRequest
from schema.domain.profiles import ProfileAccess
from schema.domain.providers import ProviderAccess, ProviderModel, ProviderName

DeltaSink = Callable[[int, str], Awaitable[None]]
"""Takes (offset in characters, text) of a reply while it is spoken."""


class ModelGateway(Protocol):
    """Calls models. One call, no retries of its own."""

    def worst_case_usd(self, request: ModelRequest, access: ProviderAccess) -> Decimal | None:
        """Return the most this call can cost, by the price map; None without a price."""
        ...

    async def load_tokenizer(self, request: ModelRequest, access: ProviderAccess) -> None:
        """Get ready to count: that takes a second and 100 MB, the first time."""
        ...

    def count_tokens(self, request: ModelRequest, access: ProviderAccess) -> int:
        """Return how many tokens the prompt has for its model. Repeated counts cost little."""
        ...

    async def complete(
        self, request: ModelRequest, access: ProviderAccess, on_delta: DeltaSink
    ) -> ModelReply:
        """Stream a reply.

        Raises `ProviderRefused` where another try cannot help (`CredentialsRefused` where it is
        the key), `ProviderUnavailable` or `ProviderTimeout` where it can.
        """
        ...


class ProviderDirectory(Protocol):
    """Knows how each provider is reached."""

    async def access(self, provider: str) -> ProviderAccess:
        """Return the key, base URL and default model in force. Costs no query as a rule."""
        ...


class ProfileDirectory(Protocol):
    """Knows the profiles that chats choose their model by."""

    async def access(self, name: str) -> ProfileAccess | None:
        """Return a profile, its key in the clear; None where there is none of that name.

        Costs no query as a rule. Raises `EncryptionKeyMissing`, `SecretNotUsable` and
        `UndecipherableSecret` for a key that cannot be used.
        """
        ...

    async def default_name(self) -> str | None:
        """Return the name of the default profile, None where none is chosen."""
        ...


class Assistants(Protocol):
    """Knows the agent of chats that name none."""

    async def assistant_id(self) -> int:
        """Return its id, making the agent when it is first asked for."""
        ...


class ModelDefaults(Protocol):
    """Knows the model of agents that name none."""

    async def model(self) -> tuple[ProviderName, str]:
        """Return the provider and the model."""
        ...

    async def of_agent(self, provider: AgentProvider | None) -> tuple[AgentProvider, str]:
        """Return the named provider and its model, or the default ones."""
        ...


class Compaction(Protocol):
    """Counts what a chat's model is sent, and shortens it."""

    async def context(self, conversation_id: int) -> ContextUse:
        """Return how full the context is. Raises `NotFound`."""
        ...

    async def compact(self, conversation_id: int, principal: Principal) -> Compacted:
        """Summarise all but the last user turns. Raises `BadRequest` where there is too little,
        `Conflict` while a turn runs."""
        ...


class ProviderProbe(Protocol):
    """Asks a provider whether it would answer: one cheap call, at most 10 seconds."""

    async def test(self, access: ProviderAccess) -> tuple[bool, str, list[str]]:
        """Return (works, a sentence, the models it lists). Never raises for a bad answer."""
        ...


class ModelCatalogue(Protocol):
    """The models the local price map knows."""

    def models(self, provider: str) -> Sequence[ProviderModel]:
        """Return a provider's chat models."""
        ...

    def context_window(self, access: ProviderAccess, model: str) -> int | None:
        """Return how many tokens a prompt of that model may have; None where that is unknown."""
        ...

"""Chooses who answers: the provider, or the demo while it is not set up."""

from __future__ import annotations

from decimal import Decimal

from conclave.ports.models import DeltaSink, ModelGateway
from schema.domain.llm import ModelReply, ModelRequest
from schema.domain.providers import ProviderAccess


class RoutingGateway:
    """A `ModelGateway` over two others."""

    def __init__(self, real: ModelGateway, demo: ModelGateway) -> None:
        self._real = real
        self._demo = demo

    def worst_case_usd(self, request: ModelRequest, access: ProviderAccess) -> Decimal | None:
        """Return the most the call can cost with whoever answers it."""
        return self._chosen(access).worst_case_usd(request, access)

    async def load_tokenizer(self, request: ModelRequest, access: ProviderAccess) -> None:
        """Get ready to count as whoever answers counts."""
        await self._chosen(access).load_tokenizer(request, access)

    def count_tokens(self, request: ModelRequest, access: ProviderAccess) -> int:
        """Return the prompt's tokens as whoever answers counts them."""
        return self._chosen(access).count_tokens(request, access)

    async def complete(
        self, request: ModelRequest, access: ProviderAccess, on_delta: DeltaSink
    ) -> ModelReply:
        """Stream a reply from the provider, or from the demo where no key is set."""
        return await self._chosen(access).complete(request, access, on_delta)

    def _chosen(self, access: ProviderAccess) -> ModelGateway:
        return self._real if access.is_configured else self._demo

"""What calls cost, by litellm's price map."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal

from conclave.adapters.llm.endpoints import ENDPOINTS
from schema.domain.llm import ModelRequest
from schema.domain.providers import ProviderName

PriceMap = Mapping[str, Mapping[str, object]]

NANO = Decimal("0.000000001")
"""The ledger's precision."""
_INPUT = "input_cost_per_token"
_OUTPUT = "output_cost_per_token"


def entry(prices: PriceMap, provider: ProviderName, model: str) -> Mapping[str, object] | None:
    """Return the map's row for a model, None where it knows none."""
    prefix = ENDPOINTS[provider].prefix.removesuffix("_chat")
    for name in (f"{prefix}/{model.removeprefix(prefix + '/')}", model):
        row = prices.get(name)
        if row is not None and row.get("litellm_provider") == prefix:
            return row
    return None


def worst_case_usd(
    prices: PriceMap, provider: ProviderName, request: ModelRequest
) -> Decimal | None:
    """Return the most a call can cost: None for a model the map does not know, but 0 for one
    that runs on one's own machine."""
    row = entry(prices, provider, request.model)
    if row is None:
        return Decimal(0) if provider is ProviderName.OLLAMA else None
    dearest_in, dearest_out = _dearest(row, _INPUT), _dearest(row, _OUTPUT)
    dearest_out = max(dearest_out, _price(row.get("output_cost_per_reasoning_token")))
    cost = request.token_bound * dearest_in + request.max_tokens * dearest_out
    return cost.quantize(NANO, rounding=ROUND_CEILING)


def _dearest(row: Mapping[str, object], name: str) -> Decimal:
    """Return the highest of a price and its tiers for long prompts."""
    tiers = (
        _price(value)
        for key, value in row.items()
        if key == name or (key.startswith(f"{name}_above_") and key.endswith("_tokens"))
    )
    return max(tiers, default=Decimal(0))


def _price(value: object) -> Decimal:
    return Decimal(str(value)) if isinstance(value, int | float) else Decimal(0)

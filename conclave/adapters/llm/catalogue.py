"""The models litellm's price map knows, read from its file without importing litellm."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from conclave.adapters.llm.demo import CONTEXT_WINDOW
from conclave.adapters.llm.endpoints import ENDPOINTS
from schema.domain.providers import ProviderAccess, ProviderModel, ProviderName

PRICE_MAP = "model_prices_and_context_window_backup.json"
_DATE = re.compile(r"-(?:\d{8}|\d{4}-\d{2}-\d{2}|\d{2}-\d{4}|\d{4}|\d{6})$")


class PriceMapCatalogue:
    """A `ModelCatalogue`. The file (megabytes) is read once and only the rows shown are kept."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._models: dict[str, tuple[ProviderModel, ...]] | None = None
        self._windows: dict[tuple[str, str], int] | None = None

    def models(self, provider: str) -> Sequence[ProviderModel]:
        """Return a provider's chat models by name; none for an unknown provider."""
        if self._models is None:
            self._models = _read(self._path or _bundled())
        return self._models.get(provider, ())

    def context_window(self, access: ProviderAccess, model: str) -> int | None:
        """Return how many tokens a prompt may have; the demo's where it answers."""
        if not access.is_configured:
            return CONTEXT_WINDOW
        if self._windows is None:
            self._windows = _windows(self._path or _bundled())
        prefix = ENDPOINTS[access.provider].prefix.removesuffix("_chat")
        return self._windows.get((prefix, model.removeprefix(f"{prefix}/")))


def model_alias(name: str) -> str:
    """Return a model's name without its provider's prefix, its date and `-latest`."""
    bare = name.rpartition("/")[2].removesuffix("-latest")
    return _DATE.sub("", bare) or bare


def _bundled() -> Path | None:
    spec = find_spec("litellm")
    locations = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(locations))) / PRICE_MAP if locations else None


def _rows(path: Path | None) -> dict[str, dict[str, object]]:
    """Return the price map; nothing where litellm is not installed."""
    if path is None or not path.is_file():
        return {}
    document = cast("dict[str, object]", json.loads(path.read_bytes()))
    return {name: cast("dict[str, object]", row) for name, row in document.items()}


def _windows(path: Path | None) -> dict[tuple[str, str], int]:
    """Return the window of every chat model of a provider we know."""
    prefixes = {endpoint.prefix.removesuffix("_chat") for endpoint in ENDPOINTS.values()}
    found: dict[tuple[str, str], int] = {}
    for name, row in _rows(path).items():
        prefix = row.get("litellm_provider")
        window = row.get("max_input_tokens") or row.get("max_tokens")
        if isinstance(prefix, str) and prefix in prefixes and isinstance(window, int):
            found[prefix, name.removeprefix(f"{prefix}/")] = window
    return found


def _read(path: Path | None) -> dict[str, tuple[ProviderModel, ...]]:
    """Return models by provider."""
    rows = _rows(path)
    if not rows:
        return {}
    return {provider.value: _of(provider, rows) for provider in ProviderName}


def _of(provider: ProviderName, rows: dict[str, dict[str, object]]) -> tuple[ProviderModel, ...]:
    prefix = ENDPOINTS[provider].prefix.removesuffix("_chat")
    found: dict[str, dict[str, object]] = {}
    for name, row in rows.items():
        if (
            row.get("litellm_provider") == prefix
            and row.get("mode") == "chat"
            and "ft:" not in name
        ):
            # The map lists some models twice, with and without the provider before the name.
            found.setdefault(name.removeprefix(f"{prefix}/"), row)
    return tuple(
        ProviderModel(
            id=number,
            model_name=name,
            model_alias=model_alias(name),
            vision=bool(found[name].get("supports_vision")),
            extended_thinking=bool(found[name].get("supports_reasoning")),
        )
        for number, name in enumerate(sorted(found), start=1)
    )

"""Providers as they are stored and as they are shown: keys masked."""

from __future__ import annotations

from datetime import datetime

from schema.domain.base import Shape
from schema.domain.providers import ProviderModel, ProviderName


class StoredProvider(Shape):
    """A stored row; `api_key` is sealed. A key by reference stands in `secret_name`."""

    name: str
    api_key: bytes | None
    secret_name: str | None
    base_url: str | None
    default_model: str | None
    updated_at: datetime


class ProviderSettings(Shape):
    """A provider as shown; `api_key` is masked, a reference to a secret is not."""

    provider: ProviderName
    api_key: str | None
    base_url: str | None
    default_model: str
    is_configured: bool
    models: list[ProviderModel]


class ProviderTest(Shape):
    """What a provider said to one cheap call."""

    success: bool
    message: str
    models: list[str]

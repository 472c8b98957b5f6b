"""Settings as they are shown: keys masked, the database without its password."""

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


class DatabaseInfo(Shape):
    """Where the database is."""

    host: str
    port: int
    name: str
    user: str
    is_connected: bool


class ApplicationSettings(Shape):
    """The application's own settings in force."""

    environment: str
    debug: bool
    log_level: str

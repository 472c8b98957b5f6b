"""What can be asked of the settings."""

from __future__ import annotations

from schema.domain.base import Shape


class UpdateProvider(Shape):
    """Change a provider: fields that were not given stay; null clears."""

    api_key: str | None = None
    base_url: str | None = None
    default_model: str | None = None


class UpdateApplication(Shape):
    """Change the application's own settings: fields that were not given stay."""

    debug: bool | None = None
    log_level: str | None = None

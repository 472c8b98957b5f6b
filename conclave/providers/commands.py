"""What can be asked of the providers."""

from __future__ import annotations

from schema.domain.base import Shape


class UpdateProvider(Shape):
    """Change a provider: fields that were not given stay; null clears."""

    api_key: str | None = None
    base_url: str | None = None
    default_model: str | None = None

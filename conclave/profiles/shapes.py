"""Profiles as they are stored."""

from __future__ import annotations

from datetime import datetime

from schema.domain.base import Shape
from schema.domain.providers import ProviderName


class StoredProfile(Shape):
    """A stored row; `api_key` is sealed. A key by reference stands in `secret_name`."""

    name: str
    provider: ProviderName
    model: str
    base_url: str | None
    is_url_trusted: bool
    api_key: bytes | None
    secret_name: str | None
    context_window: int | None
    max_output_tokens: int | None
    created_at: datetime
    updated_at: datetime

"""Profiles: which model a chat talks with, and how it is reached."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from schema.domain.base import Shape
from schema.domain.providers import ProviderName


class ProfileAccess(Shape):
    """What a model call under a profile needs. The key is in the clear: never log or return it."""

    name: str
    provider: ProviderName
    model: str
    api_key: str | None = Field(repr=False)
    """None: the provider's own key, and that only where `base_url` is None too: an address of the
    profile's own never gets the provider's key."""
    base_url: str | None
    """None: the provider's own address."""
    is_url_trusted: bool = False
    """An administrator gave `base_url`, so that it may lead inside."""
    context_window: int | None
    max_output_tokens: int | None
    """None for both: what the price map says of the model."""


class Profile(Shape):
    """A profile as shown; `api_key` is masked, a reference to a secret is not."""

    name: str
    provider: ProviderName
    model: str
    base_url: str | None
    api_key: str | None
    context_window: int | None
    max_output_tokens: int | None
    created_at: datetime
    updated_at: datetime

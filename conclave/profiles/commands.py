"""What can be asked of profiles."""

from __future__ import annotations

from pydantic import Field

from schema.domain.base import Shape
from schema.domain.providers import ProviderName


class CreateProfile(Shape):
    """A new profile. The key is in the clear, or `secret://name`: never log it."""

    name: str
    provider: ProviderName
    model: str
    base_url: str | None = None
    api_key: str | None = Field(default=None, repr=False)
    context_window: int | None = None
    max_output_tokens: int | None = None

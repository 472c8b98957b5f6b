"""What can be asked of API keys."""

from __future__ import annotations

from datetime import datetime

from schema.domain.base import Shape
from schema.domain.identity import Scope


class CreateApiKey(Shape):
    """A new key for whoever asks."""

    name: str
    scopes: frozenset[Scope]
    expires_at: datetime | None = None

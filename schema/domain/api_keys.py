"""API keys: what a program shows in place of a person's login."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from schema.domain.base import Shape
from schema.domain.identity import Scope


class ApiKeyStatus(StrEnum):
    """Whether a key still opens anything."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ApiKey(Shape):
    """A key as it is shown: never the key itself, only how it begins."""

    id: int
    name: str
    key_prefix: str
    scopes: list[Scope]
    status: ApiKeyStatus
    user_id: int
    expires_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime

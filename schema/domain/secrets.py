"""Secrets of the vault, as they may be told: the value is never among it."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote, unquote

from pydantic import Field

from schema.domain.base import Shape

REFERENCE_PREFIX = "secret://"
_PLAIN_IN_REFERENCES = "/:@!$&'()*+,;=~"


def referenced_name(text: str) -> str | None:
    """Return the name in `secret://name`, None for any other text.

    What a URL cannot hold is percent-encoded in a reference.
    """
    if not text.startswith(REFERENCE_PREFIX):
        return None
    return unquote(text.removeprefix(REFERENCE_PREFIX))


def reference_to(name: str) -> str:
    """Return the reference to a secret."""
    return REFERENCE_PREFIX + quote(name, safe=_PLAIN_IN_REFERENCES)


class Secret(Shape):
    """A live secret. `is_expired` is as of when it was read."""

    id: int
    name: str
    category: str
    description: str | None
    version: int
    expires_at: datetime | None
    is_expired: bool
    rotated_at: datetime | None
    rotated_by: int | None
    accessed_count: int
    last_accessed_at: datetime | None
    created_by: int | None
    created_at: datetime
    updated_at: datetime


class ShownSecret(Shape):
    """A secret, with its value where that was asked for or just made: never log or keep it."""

    secret: Secret
    value: str | None = Field(default=None, repr=False)


class ExpiringSecret(Shape):
    """A secret with the days until it expires, begun ones counted; 0 or less: it has expired."""

    secret: Secret
    days_until_expiry: int

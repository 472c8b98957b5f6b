"""What can be asked of secrets."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from schema.domain.base import Shape


class CreateSecret(Shape):
    """A new secret."""

    name: str
    value: str = Field(repr=False)
    category: str = "general"
    description: str | None = None
    expires_at: datetime | None = None


class UpdateSecret(Shape):
    """Change a secret: fields that were not given stay; null clears a description and a date.

    A value makes a new version.
    """

    name: str | None = None
    value: str | None = Field(default=None, repr=False)
    category: str | None = None
    description: str | None = None
    expires_at: datetime | None = None


class RotateSecret(Shape):
    """Put a new value in the place of the present one: this one, or `length` random characters.

    An `expires_at` that was not given stays.
    """

    value: str | None = Field(default=None, repr=False)
    length: int = 32
    expires_at: datetime | None = None

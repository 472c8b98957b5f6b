"""Secrets as this dialect writes them: the value is a mask of fixed length, unless it was asked for
or has just been made."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, Field, StringConstraints, field_validator

from api.platform.schemas.fields import Name, Timestamp, refuse_null
from conclave.secrets.commands import CreateSecret, RotateSecret, UpdateSecret
from schema.domain.secrets import ExpiringSecret, Secret, ShownSecret

MASK = "********"

Value = Annotated[str, StringConstraints(min_length=1, max_length=65_536)]
Category = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
    Field(description="Known ones: api_key, credential, token, certificate"),
]
Description = Annotated[str, StringConstraints(max_length=100_000)]


class SecretIn(BaseModel):
    """A new secret."""

    name: Name
    value: Value = Field(repr=False)
    category: Category = "general"
    description: Description | None = None
    expires_at: Timestamp | None = None

    def to_command(self) -> CreateSecret:
        """Return it in the core's words."""
        return CreateSecret.model_validate(self.model_dump())


class SecretPut(BaseModel):
    """What is left out stays; null clears `description` and `expires_at`."""

    name: Name | None = None
    value: Value | None = Field(default=None, repr=False)
    category: Category | None = None
    description: Description | None = None
    expires_at: Timestamp | None = None

    _not_null = field_validator("name", "value", "category", mode="before")(refuse_null)

    def to_command(self) -> UpdateSecret:
        """Return the change."""
        return UpdateSecret.model_validate(self.model_dump(exclude_unset=True))


class SecretRotate(BaseModel):
    """A new value, or how long a random one shall be."""

    value: Value | None = Field(default=None, repr=False)
    length: Annotated[int, Field(ge=16, le=128, description="Characters of a random value")] = 32
    expires_at: Timestamp | None = None

    def to_command(self) -> RotateSecret:
        """Return the change."""
        return RotateSecret.model_validate(self.model_dump(exclude_unset=True))


class SecretOut(BaseModel):
    """A secret; `value` is masked unless it was asked for."""

    id: int
    name: str
    category: str
    description: str | None
    value: str = Field(repr=False)
    version: int
    expires_at: Timestamp | None
    is_expired: bool
    rotated_at: Timestamp | None
    rotated_by: int | None
    accessed_count: int
    last_accessed_at: Timestamp | None
    created_by: int | None
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def from_domain(cls, secret: Secret) -> Self:
        """Render one, masked."""
        return cls.model_validate({**secret.model_dump(), "value": MASK})

    @classmethod
    def from_shown(cls, shown: ShownSecret) -> Self:
        """Render one as it is to be shown."""
        value = MASK if shown.value is None else shown.value
        return cls.model_validate({**shown.secret.model_dump(), "value": value})


class ExpiringSecretOut(SecretOut):
    """A secret with the days until it expires; 0 or less: it has."""

    days_until_expiry: int

    @classmethod
    def from_expiring(cls, expiring: ExpiringSecret) -> Self:
        """Render one, masked."""
        days = expiring.days_until_expiry
        return cls.model_validate(
            {**expiring.secret.model_dump(), "value": MASK, "days_until_expiry": days}
        )

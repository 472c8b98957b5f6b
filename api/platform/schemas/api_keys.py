"""API keys as this dialect writes them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from api.platform.schemas.fields import Timestamp
from conclave.identity.api_key_commands import CreateApiKey
from schema.domain.api_keys import ApiKey, ApiKeyStatus
from schema.domain.identity import Scope


class ApiKeyIn(BaseModel):
    """A new key."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=20)] = [Scope.READ]
    expires_at: Timestamp | None = None

    def to_command(self) -> CreateApiKey:
        """Return it in the core's words."""
        return CreateApiKey(
            name=self.name, scopes=frozenset(self.scopes), expires_at=self.expires_at
        )


class ApiKeyOut(BaseModel):
    """A key without the key: how it begins is all that is shown again."""

    id: int
    name: str
    key_prefix: str
    scopes: list[Scope]
    status: ApiKeyStatus
    user_id: int
    expires_at: Timestamp | None
    last_used_at: Timestamp | None
    created_at: Timestamp

    @classmethod
    def from_domain(cls, key: ApiKey) -> ApiKeyOut:
        """Return a key in this dialect's shape."""
        return cls.model_validate(key.model_dump())


class NewApiKeyOut(ApiKeyOut):
    """A key just made, with the key itself."""

    key: str
    message: str = "Store this key now: it is not shown again."

    @classmethod
    def of(cls, made: tuple[ApiKey, str]) -> NewApiKeyOut:
        """Return a new key in this dialect's shape."""
        stored, key = made
        return cls.model_validate({**stored.model_dump(), "key": key})

"""What the identity services hand to each other and to the routes."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from schema.domain.base import Shape
from schema.domain.identity import Principal, PrincipalKind, Role
from schema.domain.users import User


class Account(User):
    """A user with what proves them. Never leaves the domain."""

    password_hash: str = Field(repr=False)
    mfa_secret: bytes | None = Field(repr=False)
    mfa_pending_secret: bytes | None = Field(repr=False)
    mfa_last_step: int | None

    @property
    def principal(self) -> Principal:
        """Who acts, where a request shows no credentials yet."""
        return Principal(kind=PrincipalKind.USER, id=self.id, user_id=self.id, role=self.role)

    @property
    def public(self) -> User:
        """The user without its proofs."""
        return User.model_validate(self.model_dump(include=set(User.model_fields)))


class Standing(Shape):
    """What the record says of a session and its user, as one query reads it."""

    is_revoked: bool
    expires_at: datetime
    session_created_at: datetime
    last_active_at: datetime
    role: Role
    is_active: bool
    mfa_enabled: bool
    password_changed_at: datetime
    user_created_at: datetime


class Tokens(Shape):
    """A pair of tokens. `expires_in` is the access token's, in seconds."""

    access_token: str = Field(repr=False)
    refresh_token: str = Field(repr=False)
    expires_in: int
    password_expired: bool
    mfa_setup_required: bool


class MfaChallenge(Shape):
    """The password was right; the second factor is still to come."""

    temp_token: str = Field(repr=False)
    expires_in: int


class MfaSetup(Shape):
    """What an authenticator application needs, shown once."""

    secret: str = Field(repr=False)
    otpauth_url: str = Field(repr=False)
    qr_code: str = Field(repr=False)
    """An SVG image as a data URI."""

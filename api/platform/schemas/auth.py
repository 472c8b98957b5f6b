"""Signing in as this dialect writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StringConstraints, field_validator

from api.platform.schemas.fields import refuse_null
from api.platform.schemas.users import Email, FullName, Password, UserOut
from conclave.identity.commands import Login, Register, UpdateProfile
from conclave.identity.permissions import permissions_of
from conclave.identity.shapes import MfaChallenge, MfaSetup, Tokens
from schema.domain.identity import Principal
from schema.domain.users import User

Code: TypeAlias = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)
]
"""Six digits, or a backup code."""
Token: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class LoginIn(BaseModel):
    """`totp_code` finishes a login with a second factor in one step."""

    email: Email
    password: Password
    totp_code: Code | None = None

    def to_command(self) -> Login:
        """Return it in the core's words."""
        return Login(email=self.email, password=self.password, code=self.totp_code)


class RegisterIn(BaseModel):
    """A new account; without a name it is what stands before the @."""

    email: Email
    password: Password
    full_name: FullName | None = None

    def to_command(self) -> Register:
        """Return it in the core's words."""
        return Register(email=self.email, password=self.password, full_name=self.full_name)


class RefreshIn(BaseModel):
    """The token that is exchanged."""

    refresh_token: Token


class ProfilePatch(BaseModel):
    """Changes to one's own account; another email needs `current_password`."""

    full_name: FullName | None = None
    email: Email | None = None
    current_password: Password | None = None

    _not_null = field_validator("full_name", "email", mode="before")(refuse_null)

    def to_command(self) -> UpdateProfile:
        """Return it in the core's words."""
        return UpdateProfile.model_validate(self.model_dump(exclude_unset=True))


class ChangePasswordIn(BaseModel):
    """The present password, and the one in its place."""

    current_password: Password
    new_password: Password


class MfaSetupIn(BaseModel):
    """The password is checked where it is sent."""

    password: Password | None = None


class MfaVerifyIn(BaseModel):
    """A code; with `temp_token` it finishes a login, else it turns the second factor on."""

    model_config = ConfigDict(populate_by_name=True)

    totp_code: Code = Field(validation_alias=AliasChoices("totp_code", "code", "token"))
    temp_token: Token | None = None


class MfaDisableIn(BaseModel):
    """A code of the factor that is turned off; the password is checked where it is sent."""

    totp_code: Code
    password: Password | None = None


class LogoutIn(BaseModel):
    """Ends the session that asks, and that of `refresh_token`; or all of the user's."""

    refresh_token: Token | None = None
    all_sessions: bool = False


class TokensOut(BaseModel):
    """A pair of tokens; `expires_in` is the access token's, in seconds."""

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int
    password_expired: bool
    mfa_setup_required: bool

    @classmethod
    def from_domain(cls, tokens: Tokens) -> TokensOut:
        """Return them as this dialect writes them."""
        return cls.model_validate(tokens.model_dump())


class MfaChallengeOut(BaseModel):
    """The password was right; POST /auth/mfa/verify with the token and a code."""

    mfa_required: Literal[True] = True
    temp_token: str
    expires_in: int

    @classmethod
    def from_domain(cls, challenge: MfaChallenge) -> MfaChallengeOut:
        """Return it as this dialect writes it."""
        return cls.model_validate(challenge.model_dump())


def login_out(outcome: Tokens | MfaChallenge) -> TokensOut | MfaChallengeOut:
    """Return what a login came to."""
    if isinstance(outcome, MfaChallenge):
        return MfaChallengeOut.from_domain(outcome)
    return TokensOut.from_domain(outcome)


class MeOut(UserOut):
    """The caller's account, and what the caller may do with it."""

    permissions: list[str]

    @classmethod
    def of(cls, user: User, principal: Principal) -> MeOut:
        """Return it with the permissions of the caller: an API key's are those of its scopes."""
        return cls.model_validate(
            {**user.model_dump(), "permissions": permissions_of(principal.role)}
        )


class MfaSetupOut(BaseModel):
    """What an authenticator application needs; `qr_code` is a data URI of an SVG image."""

    secret: str
    otpauth_url: str
    qr_code: str

    @classmethod
    def from_domain(cls, setup: MfaSetup) -> MfaSetupOut:
        """Return it as this dialect writes it."""
        return cls.model_validate(setup.model_dump())


class MfaEnabledOut(BaseModel):
    """The factor is on; the backup codes are shown this once."""

    mfa_enabled: Literal[True] = True
    backup_codes: list[str]


class MfaDisabledOut(BaseModel):
    """The factor is off."""

    mfa_enabled: Literal[False] = False


class DetailOut(BaseModel):
    """A sentence."""

    detail: str


def verified_out(outcome: Tokens | Sequence[str]) -> TokensOut | MfaEnabledOut:
    """Return the tokens of a login, or the backup codes of a factor that was turned on."""
    if isinstance(outcome, Tokens):
        return TokensOut.from_domain(outcome)
    return MfaEnabledOut(backup_codes=[*outcome])

"""The security settings as this dialect writes them. Ranges are the core's to judge."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import AliasChoices, BaseModel, Field, JsonValue, field_validator, model_validator

from api.platform.schemas.fields import refuse_null
from conclave.security.shapes import SecurityOverview
from schema.domain.identity import Role
from schema.domain.security import (
    ApprovalPolicy,
    LockoutPolicy,
    PasswordPolicy,
    RateLimitPolicy,
    SessionPolicy,
    WebhookPolicy,
)


class PasswordPolicyOut(BaseModel):
    """What a new password must be; 0 turns `max_age_days` and `history_count` off."""

    min_length: int
    require_uppercase: bool
    require_lowercase: bool
    require_numbers: bool
    require_special: bool
    max_age_days: int
    history_count: int

    @classmethod
    def from_domain(cls, policy: PasswordPolicy) -> Self:
        """Render the policy."""
        return cls.model_validate(policy.model_dump())


class MfaOut(BaseModel):
    """Whether everybody must have a second factor, and how many have one."""

    required: bool
    grace_period_hours: int
    methods: list[Literal["totp"]] = ["totp"]
    enabled_users: int
    total_users: int


class RegistrationOut(BaseModel):
    """Who may make an account."""

    enabled: bool
    default_role: Role


class SecurityOut(BaseModel):
    """All security settings in force."""

    password_policy: PasswordPolicyOut
    mfa: MfaOut
    session: SessionPolicy
    lockout: LockoutPolicy
    rate_limit: RateLimitPolicy
    registration: RegistrationOut
    approvals: ApprovalPolicy
    webhooks: WebhookPolicy

    @classmethod
    def from_domain(cls, overview: SecurityOverview) -> Self:
        """Render what is in force."""
        config = overview.config
        return cls(
            password_policy=PasswordPolicyOut.from_domain(config.password_policy),
            mfa=MfaOut(
                required=config.mfa.required,
                grace_period_hours=config.mfa.grace_period_hours,
                enabled_users=overview.users_with_mfa,
                total_users=overview.users,
            ),
            session=config.session,
            lockout=config.lockout,
            rate_limit=config.rate_limit,
            registration=RegistrationOut(
                enabled=config.registration.enabled is not False,
                default_role=config.registration.default_role,
            ),
            approvals=config.approvals,
            webhooks=config.webhooks,
        )


class _Patch(BaseModel):
    """What is left out stays; null is refused."""

    _not_null = field_validator("*", mode="before")(refuse_null)


class PasswordPolicyPatch(_Patch):
    """Any fields of the policy, also wrapped in `password_policy`."""

    min_length: int | None = Field(default=None, description="8 to 128")
    require_uppercase: bool | None = None
    require_lowercase: bool | None = None
    require_numbers: bool | None = None
    require_special: bool | None = Field(
        default=None, validation_alias=AliasChoices("require_special", "require_symbols")
    )
    max_age_days: int | None = Field(
        default=None,
        description="0 to 3650; 0 is never",
        validation_alias=AliasChoices("max_age_days", "expiry_days"),
    )
    history_count: int | None = Field(default=None, description="0 to 24")

    @model_validator(mode="before")
    @classmethod
    def _unwrapped(cls, value: object) -> object:
        if isinstance(value, dict) and isinstance(inner := value.get("password_policy"), dict):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            return inner  # pyright: ignore[reportUnknownVariableType]
        return value  # pyright: ignore[reportUnknownVariableType]

    def to_command(self) -> dict[str, JsonValue]:
        """Return what was given."""
        return self.model_dump(mode="json", exclude_unset=True)


class MfaPatch(_Patch):
    """The rest of this section is read-only and ignored."""

    required: bool | None = None
    grace_period_hours: int | None = Field(default=None, description="0 to 8760")


class SessionPatch(_Patch):
    """How long a login lasts."""

    access_token_minutes: int | None = Field(default=None, description="5 to 1440")
    refresh_token_days: int | None = Field(default=None, description="1 to 90")
    max_duration_hours: int | None = Field(default=None, description="1 to 8760")
    idle_timeout_minutes: int | None = Field(default=None, description="0 to 43200; 0 is off")
    max_concurrent_sessions: int | None = Field(default=None, description="0 to 1000; 0 is off")


class LockoutPatch(_Patch):
    """What locks an account, and for how long."""

    max_attempts: int | None = Field(default=None, description="1 to 100")
    window_minutes: int | None = Field(default=None, description="1 to 1440")
    lockout_minutes: int | None = Field(default=None, description="1 to 1440")


class RateLimitPatch(_Patch):
    """Requests a minute, each 1 to 1000000."""

    per_user_per_minute: int | None = None
    per_ip_per_minute: int | None = None
    login_per_minute: int | None = None
    register_per_minute: int | None = None


class RegistrationPatch(_Patch):
    """Who may make an account."""

    enabled: bool | None = None
    default_role: Role | None = None


class ApprovalsPatch(_Patch):
    """How approvals are decided."""

    four_eyes: bool | None = None
    default_expiry_seconds: int | None = Field(default=None, description="60 to 604800")
    required_approvals: int | None = Field(
        default=None, description="1 to 10: what critical ones need at least"
    )
    escalate_after_seconds: int | None = Field(
        default=None, description="0 to 604800; 0 is never, where whoever asks says nothing"
    )
    escalate_to: JsonValue = Field(
        default=None, description="operators, admins, or a list of users' ids"
    )


class WebhooksPatch(_Patch):
    """Where outgoing webhooks may lead."""

    allow_private_addresses: bool | None = None


class SecurityPatch(_Patch):
    """Any part of the settings, merged deeply."""

    password_policy: PasswordPolicyPatch | None = None
    mfa: MfaPatch | None = None
    session: SessionPatch | None = None
    lockout: LockoutPatch | None = None
    rate_limit: RateLimitPatch | None = None
    registration: RegistrationPatch | None = None
    approvals: ApprovalsPatch | None = None
    webhooks: WebhooksPatch | None = None

    def to_command(self) -> dict[str, dict[str, JsonValue]]:
        """Return what was given, by section."""
        return self.model_dump(mode="json", exclude_unset=True)

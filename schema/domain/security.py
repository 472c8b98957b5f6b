"""The security settings in force, as the contract groups them (platform.md, section 17)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from schema.domain.approvals import MOST_APPROVALS, ApproverRole, Approvers
from schema.domain.base import Shape
from schema.domain.identity import Role


class PasswordPolicy(Shape):
    """What a new password must be. `max_age_days` and `history_count`: 0 means off."""

    min_length: int = Field(default=12, ge=8, le=128)
    require_uppercase: bool = True
    require_lowercase: bool = True
    require_numbers: bool = True
    require_special: bool = True
    max_age_days: int = Field(default=0, ge=0, le=3650)
    history_count: int = Field(default=5, ge=0, le=24)


class MfaPolicy(Shape):
    """Whether everybody must have a second factor, and how long after."""

    required: bool = False
    required_since: datetime | None = None
    """When `required` was switched on; the grace period counts from here or from the account."""
    grace_period_hours: int = Field(default=24, ge=0, le=8760)


class SessionPolicy(Shape):
    """How long a login lasts. 0 means off for the last two."""

    access_token_minutes: int = Field(default=30, ge=5, le=1440)
    refresh_token_days: int = Field(default=7, ge=1, le=90)
    max_duration_hours: int = Field(default=720, ge=1, le=8760)
    idle_timeout_minutes: int = Field(default=0, ge=0, le=43200)
    max_concurrent_sessions: int = Field(default=0, ge=0, le=1000)


class LockoutPolicy(Shape):
    """How many failures within how many minutes lock an account, and for how long."""

    max_attempts: int = Field(default=5, ge=1, le=100)
    window_minutes: int = Field(default=15, ge=1, le=1440)
    lockout_minutes: int = Field(default=15, ge=1, le=1440)


class RateLimitPolicy(Shape):
    """Requests a minute under /api/v1."""

    per_user_per_minute: int = Field(default=300, ge=1, le=1_000_000)
    per_ip_per_minute: int = Field(default=120, ge=1, le=1_000_000)
    login_per_minute: int = Field(default=10, ge=1, le=1_000_000)
    register_per_minute: int = Field(default=10, ge=1, le=1_000_000)


class RegistrationPolicy(Shape):
    """Who may make an account. `enabled` None: by AUTH_MODE (local yes, required no)."""

    enabled: bool | None = None
    default_role: Role = Role.OPERATOR


class ApprovalPolicy(Shape):
    """How approvals are decided. `required_approvals` is what critical ones need at least."""

    four_eyes: bool = False
    default_expiry_seconds: int = Field(default=86400, ge=60, le=604_800)
    required_approvals: int = Field(default=1, ge=1, le=MOST_APPROVALS)
    escalate_after_seconds: int = Field(default=0, ge=0, le=604_800)
    """0: never, where whoever asks says nothing."""
    escalate_to: Approvers = ApproverRole.ADMINS


class WebhookPolicy(Shape):
    """Where outgoing webhooks may lead."""

    allow_private_addresses: bool = False


class SecurityConfig(Shape):
    """All of it: what is stored over the defaults."""

    password_policy: PasswordPolicy = PasswordPolicy()
    mfa: MfaPolicy = MfaPolicy()
    session: SessionPolicy = SessionPolicy()
    lockout: LockoutPolicy = LockoutPolicy()
    rate_limit: RateLimitPolicy = RateLimitPolicy()
    registration: RegistrationPolicy = RegistrationPolicy()
    approvals: ApprovalPolicy = ApprovalPolicy()
    webhooks: WebhookPolicy = WebhookPolicy()


class IpAction(StrEnum):
    """What a matching rule does."""

    ALLOW = "allow"
    DENY = "deny"


class IpRule(Shape):
    """One rule: `cidr` is a network in its plain form."""

    id: int
    cidr: str
    action: IpAction
    description: str | None
    created_by: int | None
    created_at: datetime

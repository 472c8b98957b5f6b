"""What the policy says of a user or a session at a moment: arithmetic only."""

from __future__ import annotations

from datetime import datetime, timedelta

from conclave.identity.shapes import Standing
from schema.domain.security import MfaPolicy, PasswordPolicy, SecurityConfig, SessionPolicy

PASSWORD_EXPIRED = "password_expired"
MFA_SETUP_REQUIRED = "mfa_setup_required"
LONG_AGO = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
_TOUCH_SECONDS = 60.0


def password_expired(policy: PasswordPolicy, changed_at: datetime, now: datetime) -> bool:
    """Whether the password is older than it may be."""
    return policy.max_age_days > 0 and changed_at + timedelta(days=policy.max_age_days) <= now


def mfa_setup_required(
    policy: MfaPolicy, *, mfa_enabled: bool, created_at: datetime, now: datetime
) -> bool:
    """Whether a user without a second factor is past the days of grace.

    They count from the switch, or from the account where it is younger.
    """
    if not policy.required or mfa_enabled:
        return False
    start = max(policy.required_since or created_at, created_at)
    return start + timedelta(hours=policy.grace_period_hours) <= now


def limitation(config: SecurityConfig, standing: Standing, now: datetime) -> str | None:
    """Return why a session reaches /auth only, None where it is not limited."""
    if password_expired(config.password_policy, standing.password_changed_at, now):
        return PASSWORD_EXPIRED
    if mfa_setup_required(
        config.mfa,
        mfa_enabled=standing.mfa_enabled,
        created_at=standing.user_created_at,
        now=now,
    ):
        return MFA_SETUP_REQUIRED
    return None


def begun_after(policy: SessionPolicy, now: datetime) -> datetime:
    """Return the moment that sessions must have begun after to hold still."""
    return now - timedelta(hours=policy.max_duration_hours)


def used_after(policy: SessionPolicy, now: datetime) -> datetime:
    """Return the moment that sessions must have been used after to hold still."""
    if policy.idle_timeout_minutes == 0:
        return LONG_AGO
    return now - timedelta(minutes=policy.idle_timeout_minutes)


def untouched_since(policy: SessionPolicy, now: datetime) -> datetime:
    """Return the moment before which a session's last use is written anew.

    A minute ago, or a quarter of a shorter timeout, so that no session in use times out.
    """
    seconds = _TOUCH_SECONDS
    if policy.idle_timeout_minutes:
        seconds = min(seconds, policy.idle_timeout_minutes * 60 / 4)
    return now - timedelta(seconds=seconds)

"""Accounts and what they are signed in with."""

from __future__ import annotations

from datetime import datetime

from schema.domain.base import Shape
from schema.domain.identity import Role


class User(Shape):
    """An account as others may see it. `email` is lower-case."""

    id: int
    email: str
    full_name: str
    role: Role
    is_active: bool
    mfa_enabled: bool
    last_login_at: datetime | None
    password_changed_at: datetime
    created_at: datetime
    updated_at: datetime


class UserSession(Shape):
    """A login that still holds."""

    id: int
    user_id: int
    user_email: str
    ip_address: str | None
    user_agent: str | None
    created_at: datetime
    last_active_at: datetime
    expires_at: datetime

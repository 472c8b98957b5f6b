"""The security settings as they are shown."""

from __future__ import annotations

from schema.domain.base import Shape
from schema.domain.security import SecurityConfig


class SecurityOverview(Shape):
    """What is in force, and what was counted while it was read."""

    config: SecurityConfig
    """`registration.enabled` is settled here: true or false."""
    users: int
    users_with_mfa: int

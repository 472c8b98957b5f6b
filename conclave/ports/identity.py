"""Who calls, and the rules in force for callers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schema.domain.identity import Principal
from schema.domain.security import IpRule, SecurityConfig


class Authenticator(Protocol):
    """Tells who shows a credential."""

    async def authenticate(self, credential: str) -> Principal:
        """Return whose credential it is: an access token, an API key or the gateway token.

        Asks the record each time, so that what is revoked is refused at once. Raises
        `Unauthenticated`, `Forbidden` for a disabled account, `Unavailable` where the record
        cannot be asked.
        """
        ...

    def recognise(self, credential: str) -> str | None:
        """Return the key of whoever this is, judged without any query; None where that is unknown.

        Good for counting requests, never for letting one through.
        """
        ...


API_KEY_PREFIX = "conclave_"
"""What begins with it is an API key, and nothing else is."""


class ApiKeyVerifier(Protocol):
    """Tells whose API key it is."""

    async def verify(self, key: str) -> Principal:
        """Return the key's principal, its scopes counted into the role.

        Raises `Unauthenticated` for an unknown, expired or revoked key, `Forbidden` where its
        owner is disabled, `Unavailable`.
        """
        ...

    def recognise(self, key: str) -> str | None:
        """Return the name to count the key's requests under, without any query."""
        ...


class SecurityPolicy(Protocol):
    """The security settings in force."""

    async def current(self) -> SecurityConfig:
        """Return them, read from the record at most a second ago."""
        ...

    def last_known(self) -> SecurityConfig:
        """Return them without any query: as last read, or the defaults."""
        ...

    async def ip_rules(self) -> Sequence[IpRule]:
        """Return the IP rules in order, read from the record at most a second ago."""
        ...

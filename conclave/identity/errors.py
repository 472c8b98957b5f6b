"""What can go wrong with identities."""

from __future__ import annotations

from conclave.errors import Unauthenticated


class InvalidToken(Unauthenticated):
    """The credential is malformed, expired, revoked or of another type."""

    code = "invalid_token"

"""What can go wrong with identities."""

from __future__ import annotations

from conclave.errors import Forbidden, NotFound, Unauthenticated


class InvalidToken(Unauthenticated):
    """The credential is malformed, expired, revoked or of another type."""

    code = "invalid_token"


class ApiKeyNotFound(NotFound):
    """No such key, a revoked one, or somebody else's."""

    code = "api_key_not_found"

    def __init__(self, key_id: int) -> None:
        super().__init__(f"API key {key_id} not found")


class ApiKeyExpired(Unauthenticated):
    """Its time is over."""

    code = "token_expired"


class ApiKeyRevoked(Unauthenticated):
    """Somebody took it back."""

    code = "token_revoked"


class ApiKeyOwnerDisabled(Forbidden):
    """The key holds, but the account it acts for is disabled."""

    code = "account_disabled"

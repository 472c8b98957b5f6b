"""Who shows a credential: an access token, an API key or the gateway token."""

from __future__ import annotations

import hmac

from conclave.identity.errors import InvalidToken
from schema.domain.identity import GATEWAY_PRINCIPAL, Principal


class CredentialAuthenticator:
    """An `Authenticator`."""

    def __init__(self, gateway_token: str | None) -> None:
        self._gateway_token = gateway_token

    async def authenticate(self, credential: str) -> Principal:
        """Return whose credential it is. Raises `InvalidToken`."""
        if self._is_gateway(credential):
            return GATEWAY_PRINCIPAL
        raise InvalidToken("The credentials do not hold")

    def recognise(self, credential: str) -> str | None:
        """Return the key of whoever this is, without any query."""
        return GATEWAY_PRINCIPAL.key if self._is_gateway(credential) else None

    def _is_gateway(self, credential: str) -> bool:
        return self._gateway_token is not None and hmac.compare_digest(
            credential.encode(), self._gateway_token.encode()
        )

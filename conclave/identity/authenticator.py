"""Who shows a credential: an access token, an API key or the gateway token."""

from __future__ import annotations

import hmac

from conclave.identity.errors import InvalidToken
from conclave.identity.sessions import SessionService
from conclave.identity.tokens import TokenSigner, TokenType
from conclave.ports.identity import API_KEY_PREFIX, ApiKeyVerifier
from schema.domain.identity import GATEWAY_PRINCIPAL, Principal, PrincipalKind


class CredentialAuthenticator:
    """An `Authenticator`."""

    def __init__(
        self,
        gateway_token: str | None,
        tokens: TokenSigner,
        sessions: SessionService,
        api_keys: ApiKeyVerifier | None = None,
    ) -> None:
        self._gateway_token = None if gateway_token is None else gateway_token.encode()
        self._tokens = tokens
        self._sessions = sessions
        self._api_keys = api_keys

    async def authenticate(self, credential: str) -> Principal:
        """Return whose credential it is.

        Raises `InvalidToken`, `AccountDisabled`, `Unavailable`.
        """
        if self._is_gateway(credential):
            return GATEWAY_PRINCIPAL
        if self._api_keys is not None and credential.startswith(API_KEY_PREFIX):
            return await self._api_keys.verify(credential)
        claims = self._tokens.read(credential, TokenType.ACCESS)
        return await self._sessions.principal_of(claims)

    def recognise(self, credential: str) -> str | None:
        """Return the key of whoever this is, by the credential alone."""
        if self._is_gateway(credential):
            return GATEWAY_PRINCIPAL.key
        if self._api_keys is not None and credential.startswith(API_KEY_PREFIX):
            return self._api_keys.recognise(credential)
        try:
            claims = self._tokens.read(credential, TokenType.ACCESS)
        except InvalidToken:
            return None
        return f"{PrincipalKind.USER.value}:{claims.sub}"

    def _is_gateway(self, credential: str) -> bool:
        sent = credential.encode("utf-8", "replace")
        return self._gateway_token is not None and hmac.compare_digest(sent, self._gateway_token)

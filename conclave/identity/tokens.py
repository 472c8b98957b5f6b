"""Tokens: HS256 JWTs whose every claim is demanded again when they come back."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from functools import lru_cache

import jwt
from pydantic import Field, ValidationError

from conclave.identity.clock import Clock, utc_now
from conclave.identity.errors import InvalidToken, SigningKeyRefused, TokenExpired
from schema.domain.base import Shape
from schema.domain.identity import Role

SKEW_SECONDS = 30
"""How far in the future a token may say it was issued: clocks of several processes differ."""
_ALGORITHM = "HS256"
_ISSUER = "conclave"
_AUDIENCE = "conclave-api"
_MAX_LENGTH = 4096
_REMEMBERED = 2048
_MAX_ID = 2**63 - 1
_REQUIRED = ["sub", "role", "type", "iat", "exp", "iss", "aud", "jti", "sid"]
_OPTIONS = {
    "require": _REQUIRED,
    # Judged by `TokenSigner.read` itself: the end strictly, the beginning with a bounded skew.
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
}


class TokenType(StrEnum):
    """What a token is good for; it opens nothing else."""

    ACCESS = "access"
    REFRESH = "refresh"
    MFA = "mfa"


class Claims(Shape):
    """What a token says. `sid` is 0 for an MFA token: there is no session yet."""

    sub: int = Field(ge=1, le=_MAX_ID)
    role: Role
    type: TokenType
    iat: float = Field(allow_inf_nan=False)
    exp: float = Field(allow_inf_nan=False)
    jti: str = Field(min_length=1, max_length=64)
    sid: int = Field(ge=0, le=_MAX_ID)


class TokenSigner:
    """Issues and reads tokens. The first key signs, all given ones verify."""

    def __init__(self, keys: Sequence[bytes], clock: Clock = utc_now) -> None:
        self._keys = list(keys)
        self._clock = clock
        # A token is sent many times: what its signature covers does not change in between. What
        # does not hold is never kept, and the times are judged anew at each use.
        self._verified = lru_cache(maxsize=_REMEMBERED)(self._decode)
        try:
            for key in self._keys:  # one that only verifies would fail each request it is tried on
                jwt.encode({}, key, algorithm=_ALGORITHM)
        except jwt.InvalidKeyError:
            raise SigningKeyRefused("JWT_SECRET cannot be a PEM or SSH key.") from None

    @staticmethod
    def new_id() -> str:
        """Return a fresh jti."""
        return secrets.token_urlsafe(24)

    def issue(
        self,
        kind: TokenType,
        *,
        user_id: int,
        role: Role,
        session_id: int,
        expires_at: datetime,
        jti: str | None = None,
    ) -> str:
        """Return a signed token."""
        claims = {
            "sub": str(user_id),
            "role": role.value,
            "type": kind.value,
            "iat": int(self._clock().timestamp()),
            "exp": int(expires_at.timestamp()),
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "jti": jti or self.new_id(),
            "sid": session_id,
        }
        return jwt.encode(claims, self._keys[0], algorithm=_ALGORITHM)

    def read(self, token: str, kind: TokenType) -> Claims:
        """Return the claims of a token that holds and is of this type.

        Raises `TokenExpired`, and `InvalidToken` for everything else that is wrong with it.
        """
        claims = self._verified(token)
        now = self._clock().timestamp()
        if claims.type is not kind or claims.iat > now + SKEW_SECONDS:
            raise InvalidToken("The credentials do not hold")
        if claims.exp <= now:
            raise TokenExpired("The token has expired")
        return claims

    def is_of(self, token: str, kind: TokenType) -> bool:
        """Whether a token of ours is of this type, expired or not."""
        try:
            return self._verified(token).type is kind
        except InvalidToken:
            return False

    def _decode(self, token: str) -> Claims:
        if len(token) > _MAX_LENGTH or not token.isascii():
            raise InvalidToken("The credentials do not hold")
        for key in self._keys:
            try:
                payload = jwt.decode(
                    token,
                    key,
                    algorithms=[_ALGORITHM],
                    audience=_AUDIENCE,
                    issuer=_ISSUER,
                    options=_OPTIONS,  # pyright: ignore[reportArgumentType] -- a TypedDict
                )
                return Claims.model_validate(payload)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.InvalidTokenError, ValidationError, RecursionError):
                break
        raise InvalidToken("The credentials do not hold")

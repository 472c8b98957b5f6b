"""What a request shows of its caller: a token or key, where it stands, and when it runs out."""

from __future__ import annotations

from typing import cast
from urllib.parse import parse_qsl, urlencode

import jwt
from starlette.types import Scope

_LONGEST = 8192
_UNREADABLE = ""
"""A credential that was sent and can be nobody's."""
_TOKEN_KEY = "url_token"


def hide_url_token(scope: Scope) -> None:
    """Take `?token=` out of a WebSocket's URL: the server logs that, from this very scope."""
    query: bytes = scope["query_string"]
    if b"token=" not in query:
        return
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    tokens = [value for name, value in pairs if name == "token"]
    if tokens:
        scope[_TOKEN_KEY] = tokens[0]
        kept = [(name, value) for name, value in pairs if name != "token"]
        scope["query_string"] = urlencode(kept).encode()


def credential_of(scope: Scope) -> str | None:
    """Return what the caller shows: Authorization, else X-API-Key, else a WebSocket's token.

    None where nothing was sent; what cannot be anybody's is returned as an empty text.
    """
    key: str | None = None
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    for name, value in headers:
        if name == b"authorization":
            return _bearer(value)
        if name == b"x-api-key" and key is None:
            key = _sane(value.decode("latin-1").strip())
    if key is None and (token := scope.get(_TOKEN_KEY)) is not None:
        return _sane(cast(str, token))
    return key


def _bearer(value: bytes) -> str:
    scheme, _, credential = value.decode("latin-1").strip().partition(" ")
    return _sane(credential.strip()) if scheme.lower() == "bearer" else _UNREADABLE


def _sane(credential: str) -> str:
    fits = len(credential) <= _LONGEST and credential.isascii() and credential.isprintable()
    return credential if fits else _UNREADABLE


def stated_expiry(credential: str) -> float | None:
    """Return when an access token says that it expires (Unix seconds); None for anything else.

    Its signature is not looked at: ask only of credentials that hold.
    """
    try:
        claims = jwt.decode(credential, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return None
    expires = claims.get("exp")
    return float(expires) if isinstance(expires, int | float) else None

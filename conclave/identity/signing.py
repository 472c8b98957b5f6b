"""Which keys sign tokens: JWT_SECRET, else one derived from ENCRYPTION_KEY, else a random one."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from conclave.crypto import parse_keys
from conclave.identity.errors import SigningKeyRefused
from conclave.settings import AuthMode, Settings

MIN_SECRET_BYTES = 32
_VERIFYING = 2
"""How many keys of a list verify: the one that signs, and the one before it."""


def signing_keys(settings: Settings) -> Sequence[bytes]:
    """Return the key that signs, and the one before it where there is one.

    Raises `SigningKeyRefused` for a secret that is too short.
    """
    return _configured(settings) or [secrets.token_bytes(MIN_SECRET_BYTES)]


def check_signing_keys(settings: Settings) -> None:
    """Raise `SigningKeyRefused` unless tokens hold beyond this process, where they must."""
    if not _configured(settings) and settings.auth_mode is AuthMode.REQUIRED:
        raise SigningKeyRefused(
            "AUTH_MODE=required needs a key that signs tokens: set JWT_SECRET "
            f"(at least {MIN_SECRET_BYTES} bytes) or ENCRYPTION_KEY."
        )


def _configured(settings: Settings) -> list[bytes]:
    given = "" if settings.jwt_secret is None else settings.jwt_secret.get_secret_value()
    parts = [part.strip().encode() for part in given.split(",") if part.strip()]
    if any(len(part) < MIN_SECRET_BYTES for part in parts):
        raise SigningKeyRefused(
            f"JWT_SECRET is too short: each secret needs at least {MIN_SECRET_BYTES} bytes."
        )
    if not parts and settings.encryption_key is not None:
        parts = [_derived(key) for key in parse_keys(settings.encryption_key.get_secret_value())]
    return parts[:_VERIFYING]


def _derived(key: bytes) -> bytes:
    derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"conclave token signing")
    return derivation.derive(key)

"""The envelope: each secret has a data key, wrapped by ENCRYPTION_KEY; it encrypts the versions.

Rotating ENCRYPTION_KEY wraps the data keys again and leaves the ciphertexts alone. Everything is
bound to its place: a data key to its secret, a ciphertext to its secret and version, so that none
can be passed off as another's.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from conclave.crypto import KEY_BYTES, Keyring, UndecipherableSecret

_FORMAT = b"\x01"
_NONCE_BYTES = 12


def data_key_context(secret_id: int | str) -> str:
    """Return what a wrapped data key is bound to."""
    return f"secret:{secret_id}:data key"


def new_data_key(keys: Keyring, secret_id: int) -> bytes:
    """Return a fresh data key, wrapped."""
    return keys.seal_bytes(os.urandom(KEY_BYTES), data_key_context(secret_id).encode())


def encrypt(
    keys: Keyring, wrapped: bytes | None, secret_id: int, version: int, value: str
) -> bytes:
    """Encrypt one version. Raises `UndecipherableSecret` where the data key does not open."""
    nonce = os.urandom(_NONCE_BYTES)
    cipher = _cipher(keys, wrapped, secret_id)
    return _FORMAT + nonce + cipher.encrypt(nonce, value.encode(), _place(secret_id, version))


def decrypt(
    keys: Keyring, wrapped: bytes | None, secret_id: int, version: int, ciphertext: bytes
) -> str:
    """Decrypt one version. Raises `UndecipherableSecret`."""
    cipher = _cipher(keys, wrapped, secret_id)
    nonce, sealed = ciphertext[1 : 1 + _NONCE_BYTES], ciphertext[1 + _NONCE_BYTES :]
    if ciphertext[:1] != _FORMAT:
        raise UndecipherableSecret("A stored secret is of an unknown format.")
    try:
        return cipher.decrypt(nonce, sealed, _place(secret_id, version)).decode()
    except (InvalidTag, ValueError):
        raise UndecipherableSecret("A stored secret does not open: it was altered.") from None


def _cipher(keys: Keyring, wrapped: bytes | None, secret_id: int) -> AESGCM:
    if wrapped is None:
        raise UndecipherableSecret("A stored secret has no data key.")
    return AESGCM(keys.open_bytes(wrapped, data_key_context(secret_id).encode()))


def _place(secret_id: int, version: int) -> bytes:
    return f"secret:{secret_id}:version:{version}".encode()

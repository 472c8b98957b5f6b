"""Encryption at rest: AES-256-GCM under the keys of ENCRYPTION_KEY.

A sealed value is: version (1 byte), key id (4 bytes), nonce (12 bytes), ciphertext with its tag.
The key id is the start of the key's SHA-256, so that rotation needs no table of keys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from conclave.errors import ConclaveError

KEY_BYTES = 32
_VERSION = b"\x01"
_ID_BYTES = 4
_NONCE_BYTES = 12
_HEADER_BYTES = len(_VERSION) + _ID_BYTES + _NONCE_BYTES


class UndecipherableSecret(ConclaveError):
    """None of the keys at hand opens the value, or it was tampered with."""

    code = "undecipherable_secret"


class Keyring:
    """The keys of ENCRYPTION_KEY: the first one seals, all open."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("ENCRYPTION_KEY is empty")
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}
        self._first = key_id(keys[0])
        self._keys = {key_id(key): key for key in keys}

    @classmethod
    def parse(cls, text: str) -> Keyring:
        """Read what `parse_keys` reads. Raises ValueError."""
        return cls(parse_keys(text))

    @property
    def writing_key_id(self) -> bytes:
        """The id of the key that seals."""
        return self._first

    def subkeys(self, purpose: str) -> Sequence[bytes]:
        """Return a key of 32 bytes for another purpose from each key; the first one's first."""
        return [_derived(key, purpose.encode()) for key in self._keys.values()]

    def derive(self, identity: bytes, use: bytes) -> bytes | None:
        """Return a key for one use alone (HKDF-SHA-256, no salt, `use` as its info).

        None where the key of that id is not at hand.
        """
        key = self._keys.get(identity)
        if key is None:
            return None
        return _derived(key, use)

    def seal_bytes(self, plain: bytes, context: bytes) -> bytes:
        """Encrypt; `context` is authenticated with it."""
        nonce = os.urandom(_NONCE_BYTES)
        cipher = self._ciphers[self._first]
        return _VERSION + self._first + nonce + cipher.encrypt(nonce, plain, context)

    def open_bytes(self, sealed: bytes, context: bytes) -> bytes:
        """Decrypt. Raises `UndecipherableSecret`."""
        identity = sealed[1 : 1 + _ID_BYTES]
        cipher = self._ciphers.get(identity)
        if sealed[:1] != _VERSION or cipher is None:
            raise UndecipherableSecret("A stored secret was sealed with a key that is not at hand.")
        nonce = sealed[1 + _ID_BYTES : _HEADER_BYTES]
        try:
            return cipher.decrypt(nonce, sealed[_HEADER_BYTES:], context)
        except InvalidTag:
            raise UndecipherableSecret("A stored secret does not open: it was altered.") from None

    def seal(self, plain: str, *, context: str) -> bytes:
        """Encrypt a text; `context` must be given again to open it."""
        return self.seal_bytes(plain.encode(), context.encode())

    def open(self, sealed: bytes, *, context: str) -> str:
        """Decrypt a text. Raises `UndecipherableSecret`."""
        return self.open_bytes(sealed, context.encode()).decode()


def parse_keys(text: str) -> list[bytes]:
    """Read a comma list of base64 keys, each of 32 bytes. Raises ValueError."""
    keys: list[bytes] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        try:
            key = base64.b64decode(part.replace("-", "+").replace("_", "/"), validate=True)
        except binascii.Error:
            raise ValueError("ENCRYPTION_KEY is not base64") from None
        if len(key) != KEY_BYTES:
            raise ValueError(f"ENCRYPTION_KEY must be {KEY_BYTES} bytes, base64 encoded")
        keys.append(key)
    return keys


def _derived(key: bytes, use: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=use).derive(key)


def key_id(key: bytes) -> bytes:
    """Return the short public name of a key."""
    return hashlib.sha256(b"conclave key id" + key).digest()[:_ID_BYTES]


def new_key() -> str:
    """Return a fresh key for ENCRYPTION_KEY."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def mask_key(secret: str | None) -> str | None:
    """Return the first four and last three characters; nothing of a short one."""
    if not secret:
        return None
    return f"{secret[:4]}...{secret[-3:]}" if len(secret) >= 12 else "..."

"""Encryption at rest: AES-256-GCM under the keys of ENCRYPTION_KEY.

A sealed value is: version (1 byte), key id (4 bytes), nonce (12 bytes), ciphertext with its tag.
The key id is the start of the key's SHA-256, so that rotation needs no table of keys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, quote_plus

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from conclave.errors import ConclaveError

KEY_BYTES = 32
_VERSION = b"\x01"
_ID_BYTES = 4
_NONCE_BYTES = 12
_LONG_RUN = re.compile(r"[A-Za-z0-9]{12,}")
_HEADER_BYTES = len(_VERSION) + _ID_BYTES + _NONCE_BYTES


class UndecipherableSecret(ConclaveError):
    """None of the keys at hand opens the value, or it was tampered with."""

    code = "undecipherable_secret"


class KeyFile:
    """The file ENCRYPTION_KEY was read from (`NAME=value` lines): where new keys appear."""

    NAME = "ENCRYPTION_KEY"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None

    def news(self) -> list[bytes]:
        """Return the file's keys if it changed since it was last read, else none.

        A file that is missing or cannot be read has no news: the keys at hand still hold.
        """
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen == self._seen:
                return []
            lines = self._path.read_text(encoding="utf-8").splitlines()
            values = [value for line in lines if (value := _assigned(line, self.NAME)) is not None]
            keys = parse_keys(values[-1]) if values else []
        except (OSError, ValueError):
            return []
        self._seen = seen
        return keys


class Keyring:
    """The keys of ENCRYPTION_KEY: the first one seals, all open.

    With a `KeyFile` it learns new keys while it is in use: it looks whether the file changed
    (one stat, some microseconds) before it seals, and when a value names a key it does not know.
    The file's first key seals from then on; no key is forgotten before the process ends.
    """

    def __init__(self, keys: Sequence[bytes], file: KeyFile | None = None) -> None:
        if not keys:
            raise ValueError("ENCRYPTION_KEY is empty")
        self._keys = {key_id(key): key for key in keys}
        self._ciphers = {identity: AESGCM(key) for identity, key in self._keys.items()}
        self._first = key_id(keys[0])
        self._file = file

    @classmethod
    def parse(cls, text: str, file: KeyFile | None = None) -> Keyring:
        """Read a comma list of base64 keys, each of 32 bytes. Raises ValueError."""
        return cls(parse_keys(text), file)

    @property
    def writing_key_id(self) -> bytes:
        """The id of the key that seals just now."""
        self._learn()
        return self._first

    def derive(self, identity: bytes, use: bytes) -> bytes | None:
        """Return a key for one use alone (HKDF-SHA-256, no salt, `use` as its info).

        None where the key of that id is not at hand.
        """
        if self._cipher(identity) is None:
            return None
        return _derived(self._keys[identity], use)

    def subkeys(self, purpose: str) -> Sequence[bytes]:
        """Return a key of 32 bytes for another purpose from each key, that of the writing one
        first. Ask again for each use: keys are learnt."""
        self._learn()
        return [_derived(key, purpose.encode()) for key in self._keys.values()]

    def seal_bytes(self, plain: bytes, context: bytes) -> bytes:
        """Encrypt; `context` is authenticated with it."""
        nonce = os.urandom(_NONCE_BYTES)
        identity = self.writing_key_id
        return _VERSION + identity + nonce + self._ciphers[identity].encrypt(nonce, plain, context)

    def open_bytes(self, sealed: bytes, context: bytes) -> bytes:
        """Decrypt. Raises `UndecipherableSecret`."""
        cipher = self._cipher(key_id_of(sealed))
        if sealed[:1] != _VERSION or cipher is None:
            raise UndecipherableSecret("A stored secret was sealed with a key that is not at hand.")
        nonce = sealed[1 + _ID_BYTES : _HEADER_BYTES]
        try:
            return cipher.decrypt(nonce, sealed[_HEADER_BYTES:], context)
        except (InvalidTag, ValueError):
            raise UndecipherableSecret("A stored secret does not open: it was altered.") from None

    def seal(self, plain: str, *, context: str) -> bytes:
        """Encrypt a text; `context` must be given again to open it."""
        return self.seal_bytes(plain.encode(), context.encode())

    def open(self, sealed: bytes, *, context: str) -> str:
        """Decrypt a text. Raises `UndecipherableSecret`."""
        return self.open_bytes(sealed, context.encode()).decode()

    def _cipher(self, identity: bytes) -> AESGCM | None:
        cipher = self._ciphers.get(identity)
        if cipher is None and len(identity) == _ID_BYTES:
            self._learn()
            cipher = self._ciphers.get(identity)
        return cipher

    def _learn(self) -> None:
        """Take over what the file says, if it changed. Costs one stat where it did not."""
        keys = [] if self._file is None else self._file.news()
        if keys:
            # The file's order counts; what it no longer has stays at the end.
            self._keys = {key_id(key): key for key in keys} | self._keys
            self._ciphers |= {identity: AESGCM(key) for identity, key in self._keys.items()}
            self._first = key_id(keys[0])


def _derived(key: bytes, use: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=use).derive(key)


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


def key_id_of(sealed: bytes) -> bytes:
    """Return the id of the key that sealed a value; shorter where it is no sealed value."""
    return sealed[1 : 1 + _ID_BYTES]


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


def blank_out(text: str, secrets: Sequence[str | None]) -> str:
    """Return `text` without the secrets, also as others write them: escaped, encoded, in hex.

    A long run of letters and digits of a secret is blanked wherever it stands, so that no escape
    that is not thought of here lets it through.
    """
    spellings = {one for secret in filter(None, secrets) for one in _spellings(secret)}
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, "***")
    return text


def _spellings(secret: str) -> set[str]:
    raw = secret.encode()
    escaped = {json.dumps(secret)[1:-1], repr(secret)[1:-1], html.escape(secret)}
    quoted = {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    encoded = {raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode()}
    return {secret} | escaped | quoted | encoded | set(_LONG_RUN.findall(secret))


def _assigned(line: str, name: str) -> str | None:
    """Return what a `NAME=value` line assigns to `name`."""
    found, separator, value = line.partition("=")
    return value.strip() if separator and found.strip() == name else None

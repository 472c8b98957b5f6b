"""Signed addresses of downloads: whoever holds one may fetch that file, until it is over."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from conclave.files.errors import SignatureRefused
from schema.domain.base import Shape

VALID_SECONDS = 3600
_PURPOSE = "conclave file downloads"


class ServerKeys(Protocol):
    """Gives the keys that signatures are made under."""

    def subkeys(self, purpose: str) -> Sequence[bytes]:
        """Return them, the one that signs first."""
        ...


class DownloadGrant(Shape):
    """What a signed address says."""

    expires: int
    """Unix seconds."""
    signature: str

    @property
    def expires_at(self) -> datetime:
        """The same as a time."""
        return datetime.fromtimestamp(self.expires, UTC)


class DownloadSigner:
    """HMAC-SHA-256 under a key derived from ENCRYPTION_KEY.

    Without ENCRYPTION_KEY under a key of this process: addresses end with it, and another
    process does not know them.
    """

    def __init__(self, keys: ServerKeys | None, *, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._own = secrets.token_bytes(32)
        self._clock = clock

    def grant(self, file_id: int) -> DownloadGrant:
        """Return what lets anybody fetch a file for an hour."""
        expires = int(self._clock()) + VALID_SECONDS
        return DownloadGrant(expires=expires, signature=_made(self._known()[0], file_id, expires))

    def check(self, file_id: int, expires: str | None, signature: str | None) -> None:
        """Raise `SignatureRefused` unless we gave this out for this file, and it is not over.

        All keys at hand are tried, so that addresses outlive a rotation.
        """
        if not expires or not signature or not expires.isdecimal() or len(expires) > 15:
            raise SignatureRefused("The signature is not one of ours")
        sent, until = signature.encode("utf-8", "replace"), int(expires)
        made = [_made(key, file_id, until).encode() for key in self._known()]
        if not any([hmac.compare_digest(one, sent) for one in made]):
            raise SignatureRefused("The signature is not one of ours")
        if until <= self._clock():
            raise SignatureRefused("The signature is over: ask for another address")

    def _known(self) -> Sequence[bytes]:
        return [self._own] if self._keys is None else self._keys.subkeys(_PURPOSE)


def _made(key: bytes, file_id: int, expires: int) -> str:
    return hmac.digest(key, f"{file_id}:{expires}".encode(), hashlib.sha256).hex()

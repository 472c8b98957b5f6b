"""API keys of model providers as rows keep them: sealed, or `secret://name` in their place."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from conclave.errors import EncryptionKeyMissing, SecretNotUsable
from conclave.ports.secrets import SecretBox

_KEY = re.compile(r"[!-~]+")


class SealedKeys:
    """Seals and opens the keys of one table; a row's key is opened once for each change of it."""

    def __init__(self, box: SecretBox | None, context: Callable[[str], str]) -> None:
        self._box = box
        self._context = context
        self._opened: dict[str, tuple[datetime, str]] = {}

    def seal(self, name: str, key: str | None) -> bytes | None:
        """Return the key as it is stored in the row. Raises `EncryptionKeyMissing`."""
        if key is None:
            return None
        if self._box is None:
            raise EncryptionKeyMissing("API keys are stored encrypted: ENCRYPTION_KEY is not set.")
        return self._box.seal(key, context=self._context(name))

    def open(self, name: str, sealed: bytes | None, updated_at: datetime) -> str | None:
        """Return the row's key. Raises `EncryptionKeyMissing`, `UndecipherableSecret`."""
        if sealed is None:
            return None
        opened = self._opened.get(name)
        if opened is None or opened[0] != updated_at:
            if self._box is None:
                raise EncryptionKeyMissing("A stored API key needs ENCRYPTION_KEY to be read.")
            key = self._box.open(sealed, context=self._context(name))
            opened = self._opened[name] = (updated_at, key)
        return opened[1]


def as_key(value: str, reference: str) -> str:
    """Return a secret as it can stand in a header.

    What cannot is refused here: an HTTP client would quote it in its complaint.
    """
    key = value.strip()
    if _KEY.fullmatch(key) is None:
        raise SecretNotUsable(f"{reference[:300]} holds characters that an API key cannot have")
    return key

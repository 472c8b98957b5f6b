"""Values that are kept encrypted, and where they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from conclave.db import Transaction


class SecretReferences(Protocol):
    """Puts values in the place of `secret://name`."""

    async def resolve(self, text: str, *, tx: Transaction | None = None) -> str:
        """Return the named secret's present value; any other text as it is.

        With an open transaction the record is read in it; without one a value read at most a
        second ago is good enough. Raises `SecretNotUsable` where there is no such secret, it has
        expired, or it cannot be decrypted.
        """
        ...

    async def require(self, tx: Transaction, text: str, *, field: str) -> None:
        """Raise `Invalid` naming the field where `text` refers to a secret that cannot be used.

        The secret can neither be deleted nor renamed before `tx` ends: whoever stores the
        reference in it is seen by `SecretUser.uses_of` afterwards.
        """
        ...


class SecretUser(Protocol):
    """A domain that stores references to secrets."""

    async def uses_of(self, tx: Transaction, name: str) -> Sequence[str]:
        """Return what refers to the secret, as a sentence names it: `provider openai`."""
        ...


class SecretBox(Protocol):
    """Encrypts what is stored."""

    def seal(self, plain: str, *, context: str) -> bytes:
        """Encrypt; `context` binds the result to its place and must be given to open it."""
        ...

    def open(self, sealed: bytes, *, context: str) -> str:
        """Decrypt, with whichever key sealed it."""
        ...

"""`secret://name` in the place of a value: resolved when the value is used, never stored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from conclave.crypto import Keyring, UndecipherableSecret
from conclave.db import Database, Transaction
from conclave.errors import Invalid, SecretNotUsable
from conclave.secrets import envelope
from conclave.secrets.repository import SealedSecret, SecretRepository
from schema.domain.secrets import reference_to, referenced_name

FRESH_SECONDS = 1.0
"""How long a value is kept in memory: a rotated secret is used everywhere a second later."""
_USE_NOTED_SECONDS = 60.0


@dataclass(frozen=True)
class _Read:
    """A version that was decrypted a moment ago."""

    value: str = field(repr=False)
    expires_at: datetime | None
    read_at: float


class VaultReferences:
    """The `SecretReferences` of the vault. One a process."""

    def __init__(
        self,
        db: Database,
        keys: Keyring | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._keys = keys
        self._clock = clock
        self._secrets = SecretRepository()
        self._fresh: dict[str, _Read] = {}
        self._noted: dict[int, float] = {}
        self._reading = asyncio.Lock()

    async def resolve(self, text: str, *, tx: Transaction | None = None) -> str:
        """Return the secret's present value; text that is no reference as it is.

        Raises `SecretNotUsable`.
        """
        name = referenced_name(text)
        if name is None:
            return text
        if tx is not None:
            return (await self._read(tx, name)).value
        if (known := self._still_fresh(name)) is not None:
            return known
        async with self._reading:
            if (known := self._still_fresh(name)) is not None:
                return known
            async with self._db.aside() as own:
                read = self._fresh[name] = await self._read(own, name)
        return read.value

    async def require(self, tx: Transaction, text: str, *, field: str) -> None:
        """Raise `Invalid` unless the secret can be used; hold it until the transaction ends."""
        name = referenced_name(text)
        if name is None:
            return
        is_expired = None if _is_impossible(name) else await self._secrets.hold(tx, name)
        if is_expired is None:
            raise Invalid(field, f"there is no secret named {name[:255]!r}")
        if is_expired:
            raise Invalid(field, f"the secret {name!r} has expired")

    def _still_fresh(self, name: str) -> str | None:
        now = self._clock()
        for other, read in list(self._fresh.items()):
            is_over = read.expires_at is not None and read.expires_at <= datetime.now(UTC)
            if is_over or now - read.read_at >= FRESH_SECONDS:
                del self._fresh[other]  # no value stays in memory for longer than it is good for
        found = self._fresh.get(name)
        return None if found is None else found.value

    async def _read(self, tx: Transaction, name: str) -> _Read:
        reference = reference_to(name)[:300]
        sealed = None if _is_impossible(name) else await self._secrets.sealed(tx, name=name)
        if sealed is None:
            raise SecretNotUsable(f"{reference} names no secret")
        if sealed.is_expired:
            raise SecretNotUsable(f"{reference} has expired: rotate it or change its date")
        value = self._opened(sealed, reference)
        await self._note_use(tx, sealed.id)
        return _Read(value, sealed.expires_at, self._clock())

    def _opened(self, sealed: SealedSecret, reference: str) -> str:
        if self._keys is None:
            raise SecretNotUsable(f"{reference} cannot be decrypted: ENCRYPTION_KEY is not set")
        try:
            return envelope.decrypt(
                self._keys, sealed.data_key, sealed.id, sealed.version, sealed.ciphertext
            )
        except UndecipherableSecret as error:
            raise SecretNotUsable(
                f"{reference} cannot be decrypted: its key is not at hand, or it was altered"
            ) from error

    async def _note_use(self, tx: Transaction, secret_id: int) -> None:
        now = self._clock()
        if now - self._noted.get(secret_id, float("-inf")) >= _USE_NOTED_SECONDS:
            self._noted[secret_id] = now
            await self._secrets.note_use(tx, secret_id)


def _is_impossible(name: str) -> bool:
    """PostgreSQL cannot even be asked for it."""
    return "\x00" in name or not name

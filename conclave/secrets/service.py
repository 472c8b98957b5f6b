"""The vault: storing, changing, rotating, revealing and deleting secrets."""

from __future__ import annotations

import secrets as randomness
from collections.abc import Sequence

from pydantic import JsonValue

from conclave.auditing import AuditLog, changed
from conclave.crypto import Keyring, UndecipherableSecret
from conclave.db import Database, Transaction
from conclave.errors import EncryptionKeyMissing
from conclave.ports.secrets import SecretUser
from conclave.secrets import envelope
from conclave.secrets.commands import CreateSecret, RotateSecret, UpdateSecret
from conclave.secrets.errors import SecretInUse, SecretNotFound, SecretUndecipherable
from conclave.secrets.repository import SecretRepository
from schema.domain.identity import Principal
from schema.domain.secrets import ExpiringSecret, Secret, ShownSecret

_AUDITED = {"name", "category", "description", "expires_at", "version"}


class SecretService:
    """The use cases of secrets. `users` are asked before a name stops meaning anything."""

    def __init__(
        self,
        db: Database,
        keys: Keyring | None,
        audit: AuditLog,
        users: Sequence[SecretUser],
    ) -> None:
        self._db = db
        self._keys = keys
        self._audit = audit
        self._users = users
        self._secrets = SecretRepository()

    async def create(self, command: CreateSecret, principal: Principal) -> Secret:
        """Store a new secret. Raises `SecretNameTaken`, `EncryptionKeyMissing`."""
        keys = self._keyring()
        async with self._db.transaction() as tx:
            secret_id = await self._secrets.next_id(tx)
            wrapped = envelope.new_data_key(keys, secret_id)
            values = command.model_dump(exclude={"value"})
            values |= {"id": secret_id, "data_key": wrapped, "created_by": principal.user_id}
            ciphertext = envelope.encrypt(keys, wrapped, secret_id, 1, command.value)
            secret = await self._secrets.insert(tx, values, ciphertext)
            await self._record(tx, "secret_created", None, secret)
        return secret

    async def list(
        self, category: str | None, limit: int, offset: int
    ) -> tuple[Sequence[Secret], int]:
        """Return a piece of the secrets, newest first, and their number."""
        async with self._db.transaction() as tx:
            return await self._secrets.list(tx, category, limit, offset)

    async def expiring(
        self, days: int, limit: int, offset: int, *, include_expired: bool
    ) -> tuple[Sequence[ExpiringSecret], int]:
        """Return a piece of those that expire within `days`, soonest first, and their number."""
        async with self._db.transaction() as tx:
            return await self._secrets.expiring(
                tx, days, limit, offset, include_expired=include_expired
            )

    async def get(self, secret_id: int, *, reveal: bool = False) -> ShownSecret:
        """Return a secret, its value only if that is asked for: which is counted and audited.

        Raises `SecretNotFound`; for a value `SecretUndecipherable`, `EncryptionKeyMissing`.
        """
        async with self._db.transaction() as tx:
            secret = await self._found(tx, secret_id, lock=reveal)
            if not reveal:
                return ShownSecret(secret=secret)
            value = await self._value(tx, secret_id)
            secret = await self._secrets.note_reveal(tx, secret_id)
            await self._audit.record(
                tx,
                "secret_accessed",
                "secret",
                secret_id,
                changes={"name": secret.name, "version": secret.version},
            )
        return ShownSecret(secret=secret, value=value)

    async def update(self, secret_id: int, command: UpdateSecret, principal: Principal) -> Secret:
        """Change what was given; a value makes a new version.

        Raises `SecretNotFound`, `SecretNameTaken`, `SecretInUse` where references name it,
        `EncryptionKeyMissing`, `SecretUndecipherable`.
        """
        values = command.model_dump(exclude_unset=True, exclude={"value"})
        async with self._db.transaction() as tx:
            before = await self._found(tx, secret_id, lock=True)
            if values.get("name", before.name) != before.name:
                await self._refuse_if_used(tx, before.name)
            if command.value is not None:
                values |= await self._next_version(tx, before, command.value, principal)
            after = await self._store(tx, before, values)
            await self._record(tx, "secret_updated", before, after)
        return after

    async def rotate(
        self, secret_id: int, command: RotateSecret, principal: Principal
    ) -> ShownSecret:
        """Put a new value in place, a random one where none is given: that one is shown.

        Raises `SecretNotFound`, `EncryptionKeyMissing`, `SecretUndecipherable`.
        """
        made = _random_text(command.length) if command.value is None else None
        values = command.model_dump(exclude_unset=True, include={"expires_at"})
        async with self._db.transaction() as tx:
            before = await self._found(tx, secret_id, lock=True)
            values |= await self._next_version(tx, before, made or command.value or "", principal)
            values |= {"rotated_by": principal.user_id}
            after = await self._store(tx, before, values, rotated=True)
            await self._record(tx, "secret_rotated", before, after)
        return ShownSecret(secret=after, value=made)

    async def delete(self, secret_id: int) -> None:
        """Erase a secret: what was encrypted is gone. Raises `SecretNotFound`, `SecretInUse`."""
        async with self._db.transaction() as tx:
            secret = await self._found(tx, secret_id, lock=True)
            await self._refuse_if_used(tx, secret.name)
            await self._secrets.erase(tx, secret_id)
            await self._record(tx, "secret_deleted", secret, None)

    async def _found(self, tx: Transaction, secret_id: int, *, lock: bool) -> Secret:
        secret = await self._secrets.get(tx, secret_id, lock=lock)
        if secret is None:
            raise SecretNotFound(secret_id)
        return secret

    async def _value(self, tx: Transaction, secret_id: int) -> str:
        keys = self._keyring()
        sealed = await self._secrets.sealed(tx, secret_id=secret_id)
        if sealed is None:
            raise SecretUndecipherable
        try:
            return envelope.decrypt(
                keys, sealed.data_key, sealed.id, sealed.version, sealed.ciphertext
            )
        except UndecipherableSecret as error:
            raise SecretUndecipherable from error

    async def _next_version(
        self, tx: Transaction, secret: Secret, value: str, principal: Principal
    ) -> dict[str, object]:
        """Encrypt and store the next version of a locked secret; return what changes with it."""
        keys = self._keyring()
        version = secret.version + 1
        wrapped = await self._secrets.data_key(tx, secret.id)
        try:
            ciphertext = envelope.encrypt(keys, wrapped, secret.id, version, value)
        except UndecipherableSecret as error:
            raise SecretUndecipherable from error
        await self._secrets.add_version(tx, secret.id, version, ciphertext, principal.user_id)
        return {"version": version}

    async def _store(
        self,
        tx: Transaction,
        before: Secret,
        values: dict[str, object],
        *,
        rotated: bool = False,
    ) -> Secret:
        if "expires_at" in values and values["expires_at"] != before.expires_at:
            values["notified_days"] = None
        return await self._secrets.update(tx, before.id, values, rotated=rotated)

    async def _refuse_if_used(self, tx: Transaction, name: str) -> None:
        uses = [use for user in self._users for use in await user.uses_of(tx, name)]
        if uses:
            raise SecretInUse(uses)

    async def _record(
        self, tx: Transaction, action: str, before: Secret | None, after: Secret | None
    ) -> None:
        """Tell the audit log what changed: nothing of a value but that there is a new version."""
        one = after or before
        await self._audit.record(
            tx,
            action,
            "secret",
            None if one is None else one.id,
            changes=changed(_told(before), _told(after)),
        )

    def _keyring(self) -> Keyring:
        if self._keys is None:
            raise EncryptionKeyMissing("Secrets are stored encrypted: ENCRYPTION_KEY is not set.")
        return self._keys


def _told(secret: Secret | None) -> dict[str, JsonValue]:
    return {} if secret is None else secret.model_dump(mode="json", include=_AUDITED)


def _random_text(length: int) -> str:
    """Return so many random characters that are safe in a URL."""
    return randomness.token_urlsafe(length)[:length]

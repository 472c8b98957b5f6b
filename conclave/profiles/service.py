"""Profiles: named models with keys of their own, which chats choose between.

Only an administrator's word reaches the vault, or an address inside the network: whoever may
make a profile could otherwise have a secret sent to a server of theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from conclave.auditing import AuditLog, changed
from conclave.believed import Believed
from conclave.crypto import UndecipherableSecret
from conclave.db import Database, Transaction
from conclave.errors import EncryptionKeyMissing
from conclave.ports.secrets import SecretBox, SecretReferences
from conclave.ports.settings import SettingHome
from conclave.ports.urls import UrlGuard
from conclave.profiles.commands import CreateProfile
from conclave.profiles.errors import ProfileInUse, ProfileNotFound, ProfileTaken, SecretNotYours
from conclave.profiles.repository import ProfileRepository, key_context
from conclave.profiles.shapes import StoredProfile
from conclave.provider_keys import SealedKeys, as_key
from schema.domain.identity import Principal
from schema.domain.profiles import Profile, ProfileAccess
from schema.domain.secrets import reference_to, referenced_name

_SHOWN = 4
_LONG_ENOUGH_TO_SHOW = 8


class _Known(NamedTuple):
    stored: Mapping[str, StoredProfile]
    default: str | None


class ProfileService:
    """A `ProfileDirectory`: `access` costs a query a second, and one opening a change."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        box: SecretBox | None,
        guard: UrlGuard,
        references: SecretReferences,
        defaults: SettingHome,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._audit = audit
        self._keys = SealedKeys(box, key_context)
        self._guard = guard
        self._references = references
        self._defaults = defaults
        self._profiles = ProfileRepository()
        self._known = Believed(self._read, _Known({}, None), clock=clock)

    async def list(self) -> tuple[str | None, list[Profile]]:
        """Return the default's name and all profiles, their keys masked."""
        async with self._db.transaction() as tx:
            stored = await self._profiles.all(tx)
            default = await self._profiles.default_name(tx)
        return default, [self._shown(profile) for profile in stored.values()]

    async def create(self, command: CreateProfile, principal: Principal) -> Profile:
        """Store a profile.

        Raises `ProfileTaken`, `UrlRefused`, `SecretNotYours`, `EncryptionKeyMissing`, and
        `Invalid` for a reference to a secret that cannot be used.
        """
        if command.base_url is not None:
            await self._guard.check(
                command.base_url, field="profile.base_url", administrator=principal.is_admin
            )
        secret_name = referenced_name(command.api_key or "")
        if secret_name is not None and not principal.is_admin:
            raise SecretNotYours("Only administrators may name a secret as a key.")
        async with self._db.transaction() as tx:
            if secret_name is not None:
                await self._references.require(tx, command.api_key or "", field="profile.api_key")
            key = command.api_key if secret_name is None else None
            values = command.model_dump() | {
                "provider": command.provider.value,
                "is_url_trusted": principal.is_admin,
                "api_key": self._keys.seal(command.name, key),
                "secret_name": secret_name,
            }
            stored = await self._profiles.insert(tx, values)
            if stored is None:
                raise ProfileTaken(command.name)
            await self._record(tx, "profile_created", None, stored)
            tx.after_commit.append(self._known.forget)
        return self._shown(stored)

    async def delete(self, name: str) -> None:
        """Remove a profile. Raises `ProfileNotFound`, `ProfileInUse`."""
        async with self._db.transaction() as tx:
            stored = await self._profiles.get(tx, name, lock=True)
            if stored is None:
                raise ProfileNotFound(name)
            if await self._profiles.default_name(tx) == name:
                raise ProfileInUse(f"Profile {name!r} is the default: choose another one first")
            using = await self._profiles.chats_using(tx, name)
            if using:
                chats = "1 chat uses" if using == 1 else f"{using} chats use"
                raise ProfileInUse(f"{chats} the profile {name!r}")
            await self._profiles.delete(tx, name)
            await self._record(tx, "profile_deleted", stored, None)
            tx.after_commit.append(self._known.forget)

    async def default_name(self) -> str | None:
        """Return the name of the default profile, read at most a second ago."""
        return (await self._known.get()).default

    async def set_default(self, name: str) -> str:
        """Choose the default; the platform's default provider and model become its.

        Raises `ProfileNotFound`.
        """
        async with self._db.transaction() as tx:
            # The row is held, so that it cannot be deleted before it is the default.
            stored = await self._profiles.get(tx, name, lock=True)
            if stored is None:
                raise ProfileNotFound(name)
            before = await self._profiles.default_name(tx, lock=True)
            await self._profiles.set_default(tx, name)
            await self._defaults.store(tx, "llm.default_provider", stored.provider.value)
            await self._defaults.store(tx, "llm.default_model", stored.model)
            await self._audit.record(
                tx,
                "profile_default_set",
                "profile",
                name,
                changes=changed({"default": before}, {"default": name}),
            )
            tx.after_commit.append(self._known.forget)
        return name

    async def access(self, name: str) -> ProfileAccess | None:
        """Return a profile as a model call needs it; see `ports.ProfileDirectory`."""
        stored = (await self._known.get()).stored.get(name)
        if stored is None:
            return None
        return ProfileAccess(
            name=stored.name,
            provider=stored.provider,
            model=stored.model,
            api_key=await self._key(stored),
            base_url=stored.base_url,
            is_url_trusted=stored.is_url_trusted,
            context_window=stored.context_window,
            max_output_tokens=stored.max_output_tokens,
        )

    async def uses_of(self, tx: Transaction, name: str) -> Sequence[str]:
        """Return the profiles whose key is this secret."""
        return [f"profile {found}" for found in await self._profiles.using_secret(tx, name)]

    async def _read(self) -> _Known:
        async with self._db.aside() as tx:
            return _Known(await self._profiles.all(tx), await self._profiles.default_name(tx))

    async def _key(self, stored: StoredProfile) -> str | None:
        if stored.secret_name is None:
            return self._open(stored)
        reference = reference_to(stored.secret_name)
        return as_key(await self._references.resolve(reference), reference)

    def _open(self, stored: StoredProfile) -> str | None:
        return self._keys.open(stored.name, stored.api_key, stored.updated_at)

    def _shown(self, stored: StoredProfile) -> Profile:
        return Profile(
            name=stored.name,
            provider=stored.provider,
            model=stored.model,
            base_url=stored.base_url,
            api_key=self._masked(stored),
            context_window=stored.context_window,
            max_output_tokens=stored.max_output_tokens,
            created_at=stored.created_at,
            updated_at=stored.updated_at,
        )

    def _masked(self, stored: StoredProfile) -> str | None:
        if stored.secret_name is not None:
            return reference_to(stored.secret_name)
        try:
            key = self._open(stored)
        except (UndecipherableSecret, EncryptionKeyMissing):
            return "..."
        if key is None:
            return None
        return f"...{key[-_SHOWN:]}" if len(key) >= _LONG_ENOUGH_TO_SHOW else "..."

    async def _record(
        self,
        tx: Transaction,
        action: str,
        before: StoredProfile | None,
        after: StoredProfile | None,
    ) -> None:
        profile = after or before
        changes = changed(_columns(before), _columns(after))
        await self._audit.record(tx, action, "profile", profile and profile.name, changes=changes)


def _columns(stored: StoredProfile | None) -> dict[str, JsonValue]:
    """Return what the audit log tells: of a key only that there is one."""
    if stored is None:
        return {}
    hidden = {"api_key", "secret_name", "created_at", "updated_at"}
    told: dict[str, JsonValue] = stored.model_dump(mode="json", exclude=hidden)
    if stored.secret_name is not None:
        return told | {"key": reference_to(stored.secret_name)}
    return told | {"key": "***" if stored.api_key is not None else None}

"""API keys: making, listing, revoking them, and telling whose key somebody shows."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from conclave.auditing import AuditLog
from conclave.db import Database
from conclave.errors import Forbidden, Invalid
from conclave.identity.api_key_commands import CreateApiKey
from conclave.identity.api_key_repository import ApiKeyRepository, UsedKey
from conclave.identity.errors import (
    AccountDisabled,
    ApiKeyNotFound,
    InvalidToken,
    TokenExpired,
    TokenRevoked,
)
from conclave.ports.identity import API_KEY_PREFIX
from schema.domain.api_keys import ApiKey
from schema.domain.identity import Principal, PrincipalKind, Role, Scope

_RANDOM_BYTES = 32
_LENGTH = len(API_KEY_PREFIX) + 43
_SHOWN = 12
_PURPOSE = "conclave api keys"
_RECOGNISED = 10_000
_ALLOWED_BY = {Scope.READ: Role.VIEWER, Scope.WRITE: Role.OPERATOR, Scope.ADMIN: Role.ADMIN}
"""What each scope allows at most. `workers` is apart: section 7 alone, for operators' keys."""
_NEEDED_FOR = {**_ALLOWED_BY, Scope.WORKERS: Role.OPERATOR}
_ROLES = list(Role)


class ServerKeys(Protocol):
    """Gives the keys that hashes are made under."""

    def subkeys(self, purpose: str) -> Sequence[bytes]:
        """Return them, the one that writes first."""
        ...


class ApiKeyHasher:
    """HMAC-SHA-256 under a key derived from each key of ENCRYPTION_KEY, the first one's first.

    A lookup tries them all, and a use writes the first one's hash, so that keys outlive a
    rotation; one that was not used between the rotation and the removal of the old key is void.
    Without any ENCRYPTION_KEY the hash is made under a fixed text, a plain SHA-256 in effect: good
    enough for 256 random bits, which nobody can guess from it. It is also tried last where there
    are keys, so that setting ENCRYPTION_KEY later voids nothing.
    """

    def __init__(self, keys: ServerKeys | None) -> None:
        self._keys = keys

    def hashes(self, key: str) -> list[str]:
        """Return every hash the key may be stored under; new ones are stored under the first."""
        derived: Sequence[bytes] = ()
        if self._keys is not None:
            derived = self._keys.subkeys(_PURPOSE)
        return [_hmac(secret, key).hex() for secret in (*derived, _PURPOSE.encode())]


class ApiKeyService:
    """The use cases of API keys, and an `ApiKeyVerifier`."""

    def __init__(self, db: Database, audit: AuditLog, hasher: ApiKeyHasher) -> None:
        self._db = db
        self._audit = audit
        self._hasher = hasher
        self._keys = ApiKeyRepository()
        self._lately = _Lately()

    async def create(self, command: CreateApiKey, principal: Principal) -> tuple[ApiKey, str]:
        """Return a new key of the caller's and the key itself, which is not kept.

        Raises `Forbidden` for a scope above the caller's role or a caller that is no person, and
        `Invalid` for an end in the past.
        """
        user_id = _owner(principal)
        for scope in sorted(command.scopes):
            if not principal.has(_NEEDED_FOR[scope]):
                raise Forbidden(f"The scope '{scope.value}' is above your role")
        if command.expires_at is not None and command.expires_at <= datetime.now(UTC):
            raise Invalid("expires_at", "expires_at is in the past")
        key = API_KEY_PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        async with self._db.transaction() as tx:
            stored = await self._keys.insert(
                tx,
                user_id=user_id,
                name=command.name,
                key_prefix=key[:_SHOWN],
                key_hash=self._hasher.hashes(key)[0],
                scopes=command.scopes,
                expires_at=command.expires_at,
            )
            await self._audit.record(
                tx,
                "api_key_created",
                "api_key",
                stored.id,
                changes={
                    "name": stored.name,
                    "scopes": [scope.value for scope in stored.scopes],
                    "expires_at": stored.expires_at and stored.expires_at.isoformat(),
                },
            )
        return stored, key

    async def list(
        self, principal: Principal, *, of_all: bool, limit: int, offset: int
    ) -> tuple[Sequence[ApiKey], int]:
        """Return a piece of the caller's keys, or of everybody's, newest first, and the total.

        Raises `Forbidden` where everybody's are asked for by anybody but an admin.
        """
        if of_all and not principal.is_admin:
            raise Forbidden("Only admins may see everybody's API keys")
        if not of_all and principal.user_id is None:
            return (), 0
        async with self._db.transaction() as tx:
            return await self._keys.list(tx, None if of_all else principal.user_id, limit, offset)

    async def revoke(self, key_id: int, principal: Principal) -> None:
        """Revoke a key of the caller's, or anybody's for an admin; it is refused from now on.

        Raises `ApiKeyNotFound`, also where it is revoked already.
        """
        if principal.user_id is None and not principal.is_admin:
            raise ApiKeyNotFound(key_id)
        async with self._db.transaction() as tx:
            user_id = None if principal.is_admin else principal.user_id
            revoked = await self._keys.revoke(tx, key_id, user_id)
            if revoked is None:
                raise ApiKeyNotFound(key_id)
            await self._audit.record(
                tx, "api_key_revoked", "api_key", key_id, changes={"name": revoked.name}
            )

    async def verify(self, key: str) -> Principal:
        """Return whom the key acts for, as the record has it now.

        Raises `InvalidToken`, `TokenExpired`, `TokenRevoked`, `AccountDisabled` or
        `Unavailable`.
        """
        if not _looks_like_one(key):
            raise InvalidToken("The credentials do not hold")
        hashes = self._hasher.hashes(key)
        async with self._db.autocommit() as tx:
            used = await self._keys.use(tx, hashes)
        try:
            principal = _principal(used)
        except (InvalidToken, TokenExpired, TokenRevoked, AccountDisabled):
            self._lately.forget(key)
            raise
        self._lately.remember(key, f"{PrincipalKind.API_KEY.value}:{principal.id}")
        return principal

    def recognise(self, key: str) -> str | None:
        """Return a name for a key that held lately. Each key is counted for itself."""
        return self._lately.name(key) if _looks_like_one(key) else None


class _Lately:
    """Keys that held lately, by their HMAC under a key of this process: the keys are not kept."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._names: OrderedDict[bytes, str] = OrderedDict()

    def remember(self, key: str, name: str) -> None:
        digest = _hmac(self._secret, key)
        self._names[digest] = name
        self._names.move_to_end(digest)
        if len(self._names) > _RECOGNISED:
            self._names.popitem(last=False)

    def forget(self, key: str) -> None:
        self._names.pop(_hmac(self._secret, key), None)

    def name(self, key: str) -> str | None:
        return self._names.get(_hmac(self._secret, key))


def _hmac(secret: bytes, key: str) -> bytes:
    return hmac.digest(secret, key.encode(), hashlib.sha256)


def _looks_like_one(key: str) -> bool:
    return len(key) == _LENGTH and key.startswith(API_KEY_PREFIX) and key.isascii()


def _owner(principal: Principal) -> int:
    """Return the user a new key will belong to. Raises `Forbidden`."""
    if principal.kind in {PrincipalKind.API_KEY, PrincipalKind.WORKER_NODE}:
        raise Forbidden("An API key cannot make API keys: log in")
    if principal.user_id is None:
        raise Forbidden("An API key belongs to a user: log in as one to make it")
    return principal.user_id


def _principal(used: UsedKey | None) -> Principal:
    """Return whom a key acts for: at most what its owner may and its scopes allow."""
    if used is None or used.is_ownerless:
        raise InvalidToken("The credentials do not hold")
    if used.is_revoked:
        raise TokenRevoked("The API key was revoked")
    if used.is_expired:
        raise TokenExpired("The API key has expired")
    if not used.is_active:
        raise AccountDisabled
    scopes = {
        scope
        for scope in used.scopes
        if scope is not Scope.WORKERS or _reaches(used.role, Role.OPERATOR)
    }
    allowed = [_ALLOWED_BY[scope] for scope in scopes if scope in _ALLOWED_BY]
    role = min((used.role, max(allowed, key=_ROLES.index)), key=_ROLES.index) if allowed else None
    return Principal(
        kind=PrincipalKind.WORKER_NODE if role is None else PrincipalKind.API_KEY,
        id=used.id,
        user_id=used.user_id,
        role=role,
        scopes=frozenset(scopes),
    )


def _reaches(role: Role, needed: Role) -> bool:
    return _ROLES.index(role) >= _ROLES.index(needed)

"""Proving oneself again inside a session: what is guessed there is counted apart from logins."""

from __future__ import annotations

from conclave.db import Database, Transaction
from conclave.identity.errors import AccountLocked, UserNotFound, WrongPassword
from conclave.identity.lockout import Lockout, session_key
from conclave.identity.passwords import PasswordHasher
from conclave.identity.shapes import Account
from conclave.identity.user_repository import UserRepository
from conclave.ports.identity import SecurityPolicy
from schema.domain.security import LockoutPolicy


class Confirmation:
    """A stolen session must not be a place to guess the password at leisure."""

    def __init__(
        self, db: Database, policy: SecurityPolicy, hasher: PasswordHasher, lockout: Lockout
    ) -> None:
        self._db = db
        self._policy = policy
        self._hasher = hasher
        self._lockout = lockout
        self._users = UserRepository()

    async def password(self, user_id: int, password: str) -> Account:
        """Return the account whose present password this is.

        Raises `WrongPassword`, `AccountLocked`, `UserNotFound`.
        """
        async with self._db.autocommit() as tx:
            await self.check(tx, user_id)
            account = await self._users.by_id(tx, user_id)
        if account is None:
            raise UserNotFound(user_id)
        if not await self._hasher.matches(password, account.password_hash):
            policy = (await self._policy.current()).lockout
            async with self._db.transaction() as tx:
                locked = await self.failed(tx, user_id, policy)
            raise locked or WrongPassword()
        async with self._db.autocommit() as tx:
            await self._lockout.succeeded(tx, session_key(user_id))
        return account

    async def check(self, tx: Transaction, user_id: int) -> None:
        """Raise `AccountLocked` after too many failures."""
        await self._lockout.check(tx, session_key(user_id))

    async def failed(
        self, tx: Transaction, user_id: int, policy: LockoutPolicy
    ) -> AccountLocked | None:
        """Count a failure; commit it, then raise what is returned or the refusal itself."""
        return await self._lockout.failed(tx, session_key(user_id), policy, user_id)

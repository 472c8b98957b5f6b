"""Lockout: so many failures within the window close a name for a while."""

from __future__ import annotations

from conclave.auditing import AuditLog
from conclave.db import Transaction
from conclave.identity.attempt_repository import AttemptRepository
from conclave.identity.clock import Clock
from conclave.identity.errors import AccountLocked
from schema.domain.security import LockoutPolicy


def session_key(user_id: int) -> str:
    """Name a user's failures inside a session: they do not close the login, nor it them."""
    return f"user:{user_id}"


class Lockout:
    """Counts for logins by email, whether or not there is such an account."""

    def __init__(self, audit: AuditLog, clock: Clock) -> None:
        self._audit = audit
        self._clock = clock
        self._attempts = AttemptRepository()

    async def check(self, tx: Transaction, key: str) -> None:
        """Raise `AccountLocked` while the lock holds."""
        now = self._clock()
        until = await self._attempts.locked_until(tx, key, now)
        if until is not None:
            raise AccountLocked((until - now).total_seconds())

    async def failed(
        self, tx: Transaction, key: str, policy: LockoutPolicy, user_id: int | None
    ) -> AccountLocked | None:
        """Count a failure; return what to raise where the lock had been there before.

        The failure that locks is answered as the ones before it: commit it, then raise.
        """
        now = self._clock()
        attempts = await self._attempts.count(tx, key, policy, now)
        if attempts.locked_until is None:
            return None
        if attempts.failures > policy.max_attempts:
            return AccountLocked((attempts.locked_until - now).total_seconds())
        await self._audit.record(
            tx, "account_locked", "user", user_id, changes={"failures": attempts.failures}
        )
        return None

    async def succeeded(self, tx: Transaction, key: str) -> None:
        """Forget the failures. Raises `AccountLocked` where guesses at once have locked it."""
        await self._attempts.clear(tx, key, unless_locked_at=self._clock())
        await self.check(tx, key)

    async def lift(self, tx: Transaction, key: str) -> None:
        """Forget the failures and the lock: an operator's decision."""
        await self._attempts.clear(tx, key, unless_locked_at=None)

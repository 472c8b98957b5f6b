"""New passwords: judged by the policy in force, and put in the place of the old ones."""

from __future__ import annotations

from conclave.auditing import AuditLog
from conclave.db import Database, Transaction
from conclave.identity.clock import Clock
from conclave.identity.mfa_repository import MfaRepository
from conclave.identity.password_rules import PasswordRules
from conclave.identity.sessions import SessionService
from conclave.identity.shapes import Account
from conclave.identity.user_repository import UserRepository
from conclave.ports.identity import SecurityPolicy
from schema.domain.identity import Principal


class NewPasswords:
    """Hashes outside of transactions; what an old password had opened ends with it, always."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        policy: SecurityPolicy,
        rules: PasswordRules,
        sessions: SessionService,
        clock: Clock,
    ) -> None:
        self._db = db
        self._audit = audit
        self._policy = policy
        self._rules = rules
        self._sessions = sessions
        self._clock = clock
        self._users = UserRepository()
        self._factors = MfaRepository()

    async def first(self, password: str, email: str) -> str:
        """Return the hash for an account that is about to be made. Raises `WeakPassword`."""
        config = await self._policy.current()
        return await self._rules.accept(
            password, config.password_policy, field="password", email=email
        )

    async def next(self, password: str, account: Account, *, field: str = "password") -> str:
        """Return the hash of an account's next password.

        Raises `WeakPassword` naming the field, `PasswordReused`.
        """
        config = await self._policy.current()
        async with self._db.autocommit() as tx:
            earlier = await self._users.earlier_passwords(tx, account.id)
        return await self._rules.accept(
            password,
            config.password_policy,
            field=field,
            email=account.email,
            earlier=[account.password_hash, *earlier],
        )

    async def put(
        self,
        tx: Transaction,
        account: Account,
        hashed: str,
        *,
        keep: int | None,
        principal: Principal | None = None,
    ) -> None:
        """Replace a password; end its owner's sessions but `keep`, and logins under way.

        The caller holds the lock on the account.
        """
        await self._users.replace_password(tx, account, hashed, self._clock())
        await self._factors.drop_challenges(tx, account.id)
        await self._sessions.end_all(tx, account.id, "password_changed", keep=keep)
        await self._audit.record(tx, "password_changed", "user", account.id, principal=principal)

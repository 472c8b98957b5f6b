"""The second factor: setting it up, turning it off, and judging its codes."""

from __future__ import annotations

from collections.abc import Sequence

from conclave.auditing import AuditLog
from conclave.crypto import UndecipherableSecret
from conclave.db import Database, Transaction
from conclave.identity.clock import Clock
from conclave.identity.codes import (
    backup_hash,
    is_totp,
    new_backup_codes,
    new_secret,
    setup_of,
    step_of,
)
from conclave.identity.confirmation import Confirmation
from conclave.identity.errors import (
    MfaAlreadyActive,
    MfaNotActive,
    MfaRequired,
    MfaUnavailable,
    WrongCode,
)
from conclave.identity.mfa_repository import MfaRepository
from conclave.identity.persons import person
from conclave.identity.sealed import mfa_context
from conclave.identity.shapes import Account, MfaSetup
from conclave.identity.user_repository import UserRepository
from conclave.ports.identity import SecurityPolicy
from conclave.ports.secrets import SecretBox
from schema.domain.identity import Principal


class SecondFactorService:
    """A secret waits (`mfa_pending_secret`) until a first code proves that it arrived."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        policy: SecurityPolicy,
        box: SecretBox | None,
        confirmation: Confirmation,
        clock: Clock,
    ) -> None:
        self._db = db
        self._audit = audit
        self._policy = policy
        self._box = box
        self._confirmation = confirmation
        self._clock = clock
        self._users = UserRepository()
        self._factors = MfaRepository()

    async def set_up(self, principal: Principal, password: str | None) -> MfaSetup:
        """Make a secret that waits for its first code; the password is checked where given.

        Raises `MfaAlreadyActive`, `WrongPassword`, `MfaUnavailable`.
        """
        user_id = person(principal)
        if password is not None:
            await self._confirmation.password(user_id, password)
        secret = new_secret()
        async with self._db.transaction() as tx:
            account = await self._users.locked(tx, user_id)
            if account.mfa_enabled:
                raise MfaAlreadyActive
            sealed = self._box_or_refuse().seal(secret, context=mfa_context(user_id))
            await self._users.update(tx, user_id, {"mfa_pending_secret": sealed})
            await self._audit.record(tx, "mfa_setup_begun", "user", user_id, principal=principal)
        return setup_of(secret, account.email)

    async def enable(self, principal: Principal, code: str) -> Sequence[str]:
        """Turn the factor on by its first code and return the backup codes, shown once.

        Raises `MfaAlreadyActive`, `WrongCode`.
        """
        user_id = person(principal)
        now = self._clock()
        codes = new_backup_codes()
        async with self._db.transaction() as tx:
            account = await self._users.locked(tx, user_id)
            if account.mfa_enabled:
                raise MfaAlreadyActive
            if account.mfa_pending_secret is None:
                raise WrongCode("No setup was begun")
            step = step_of(self._open(account, account.mfa_pending_secret), code, now, after=None)
            if step is None:
                raise WrongCode
            values: dict[str, object] = {
                "mfa_secret": account.mfa_pending_secret,
                "mfa_pending_secret": None,
                "mfa_last_step": step,
                "updated_at": now,
            }
            await self._users.update(tx, user_id, values)
            await self._factors.replace_backup_codes(
                tx, user_id, [backup_hash(user_id, code) for code in codes]
            )
            await self._audit.record(tx, "mfa_enabled", "user", user_id, principal=principal)
        return codes

    async def disable(self, principal: Principal, code: str, password: str | None) -> None:
        """Turn the factor off by one of its codes; the password is checked where given.

        Raises `MfaRequired`, `MfaNotActive`, `WrongPassword`, `WrongCode`, `AccountLocked`.
        """
        user_id = person(principal)
        config = await self._policy.current()
        if config.mfa.required:
            raise MfaRequired
        if password is not None:
            await self._confirmation.password(user_id, password)
        async with self._db.transaction() as tx:
            account = await self._users.locked(tx, user_id)
            if not account.mfa_enabled:
                raise MfaNotActive
            await self._confirmation.check(tx, user_id)
            fits = await self.accept(tx, account, code) is not None
            # Counted under the lock on the account: guesses sent at once come one by one.
            locked = None
            if fits:
                await self.remove(tx, account)
                await self._audit.record(tx, "mfa_disabled", "user", user_id, principal=principal)
            else:
                locked = await self._confirmation.failed(tx, user_id, config.lockout)
        if not fits:
            raise locked or WrongCode()

    async def remove(self, tx: Transaction, account: Account) -> None:
        """Forget a user's factor, backup codes included."""
        values: dict[str, object] = {
            "mfa_secret": None,
            "mfa_pending_secret": None,
            "mfa_last_step": None,
            "updated_at": self._clock(),
        }
        await self._users.update(tx, account.id, values)
        await self._factors.replace_backup_codes(tx, account.id, [])

    async def accept(self, tx: Transaction, account: Account, code: str) -> str | None:
        """Use a code up and return its kind, None where it does not fit or was used before.

        The caller holds the lock on the account. Raises `MfaUnavailable`.
        """
        now = self._clock()
        if not is_totp(code):
            hashed = backup_hash(account.id, code)
            used = await self._factors.use_backup_code(tx, account.id, hashed, now)
            return "backup_code" if used else None
        if account.mfa_secret is None:
            return None
        secret = self._open(account, account.mfa_secret)
        step = step_of(secret, code, now, after=account.mfa_last_step)
        if step is None:
            return None
        await self._users.update(tx, account.id, {"mfa_last_step": step})
        return "totp"

    def _open(self, account: Account, sealed: bytes) -> str:
        try:
            return self._box_or_refuse().open(sealed, context=mfa_context(account.id))
        except UndecipherableSecret as error:
            raise MfaUnavailable(
                "The second factor cannot be checked: its secret was sealed with another "
                "ENCRYPTION_KEY"
            ) from error

    def _box_or_refuse(self) -> SecretBox:
        if self._box is None:
            raise MfaUnavailable("A second factor needs ENCRYPTION_KEY, which is not set")
        return self._box

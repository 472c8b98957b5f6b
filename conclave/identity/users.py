"""Other people's accounts, as administrators and operators handle them."""

from __future__ import annotations

from collections.abc import Sequence

from conclave.auditing import AuditLog, changed
from conclave.db import Database, Transaction
from conclave.identity.accounts import audited
from conclave.identity.clock import Clock
from conclave.identity.commands import CreateUser, UpdateUser
from conclave.identity.errors import EmailTaken, LastAdministrator, NoAccount, UserNotFound
from conclave.identity.lockout import Lockout, session_key
from conclave.identity.new_passwords import NewPasswords
from conclave.identity.registration import RegistrationService
from conclave.identity.second_factor import SecondFactorService
from conclave.identity.sessions import SessionService
from conclave.identity.shapes import Account
from conclave.identity.user_repository import UserRepository
from schema.domain.identity import Principal, PrincipalKind, Role
from schema.domain.users import User


class UserService:
    """The access layer lets administrators in only; the command line is an administrator too."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        passwords: NewPasswords,
        registration: RegistrationService,
        sessions: SessionService,
        second_factor: SecondFactorService,
        lockout: Lockout,
        clock: Clock,
    ) -> None:
        self._db = db
        self._audit = audit
        self._passwords = passwords
        self._registration = registration
        self._sessions = sessions
        self._second_factor = second_factor
        self._lockout = lockout
        self._clock = clock
        self._users = UserRepository()

    async def list(self, role: Role | None, limit: int, offset: int) -> tuple[Sequence[User], int]:
        """Return a piece of the list, newest first, and the length of the whole."""
        async with self._db.transaction() as tx:
            return await self._users.list(tx, role, limit, offset)

    async def create(self, command: CreateUser) -> User:
        """Make an account. Raises `WeakPassword`, `EmailTaken`."""
        hashed = await self._passwords.first(command.password, command.email)
        async with self._db.transaction() as tx:
            account = await self._registration.insert(tx, command, hashed)
            await self._audit.record(
                tx,
                "user_created",
                "user",
                account.id,
                changes={"email": account.email, "role": account.role.value},
            )
        return account.public

    async def update(self, user_id: int, command: UpdateUser, principal: Principal) -> User:
        """Change an account; disabling it or giving it another password ends its sessions.

        Raises `UserNotFound`, `EmailTaken`, `LastAdministrator`, `WeakPassword`,
        `PasswordReused`, and `NoAccount` for an API key that would set a password.
        """
        given = command.model_fields_set
        hashed = None
        if "password" in given:
            if principal.kind is PrincipalKind.API_KEY:
                raise NoAccount("An API key cannot change passwords")
            async with self._db.autocommit() as tx:
                account = await self._users.by_id(tx, user_id)
            if account is None:
                raise UserNotFound(user_id)
            hashed = await self._passwords.next(command.password, account)
        async with self._db.transaction() as tx:
            if given & {"role", "is_active"}:
                await self._users.lock_administrators(tx)
            before = await self._users.locked(tx, user_id)
            await self._keep_an_administrator(tx, before, command)
            await self._store(tx, before, command)
            if hashed is not None:
                await self._replace_password(tx, before, hashed, keep=principal.session_id)
            after = await self._users.locked(tx, user_id)
            if before.is_active and not after.is_active:
                await self._sessions.end_all(tx, user_id, "disabled")
            await self._audit.record(
                tx,
                "user_updated",
                "user",
                user_id,
                changes=changed(audited(before), audited(after)),
            )
        return after.public

    async def reset(self, email: str, password: str, *, disable_mfa: bool) -> User:
        """Give somebody who is locked out a new password, ending their sessions and lockouts.

        An operator's act at the command line. Raises `UserNotFound`, `WeakPassword`,
        `PasswordReused`.
        """
        async with self._db.autocommit() as tx:
            found = await self._users.by_email(tx, email)
        if found is None:
            raise UserNotFound(email)
        hashed = await self._passwords.next(password, found)
        async with self._db.transaction() as tx:
            account = await self._users.locked(tx, found.id)
            await self._replace_password(tx, account, hashed, keep=None)
            if disable_mfa and account.mfa_enabled:
                await self._second_factor.remove(tx, account)
                await self._audit.record(tx, "mfa_disabled", "user", account.id)
            account = await self._users.locked(tx, found.id)
        return account.public

    async def _store(self, tx: Transaction, before: Account, command: UpdateUser) -> None:
        given = command.model_fields_set
        values = command.model_dump(mode="json", include=given - {"email", "password"})
        await self._users.update(tx, before.id, {**values, "updated_at": self._clock()})
        if (
            "email" in given
            and command.email != before.email
            and not await self._users.change_email(tx, before.id, command.email)
        ):
            raise EmailTaken

    async def _replace_password(
        self, tx: Transaction, account: Account, hashed: str, *, keep: int | None
    ) -> None:
        await self._passwords.put(tx, account, hashed, keep=keep)
        await self._lockout.lift(tx, account.email)
        await self._lockout.lift(tx, session_key(account.id))

    async def _keep_an_administrator(
        self, tx: Transaction, before: Account, command: UpdateUser
    ) -> None:
        after = before.model_copy(update=command.model_dump(include=command.model_fields_set))
        was, stays = (one.is_active and one.role is Role.ADMIN for one in (before, after))
        if was and not stays and not await self._users.other_administrators(tx, before.id):
            raise LastAdministrator

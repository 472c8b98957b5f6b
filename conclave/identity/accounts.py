"""One's own account: the profile and the password."""

from __future__ import annotations

from pydantic import JsonValue

from conclave.auditing import AuditLog, changed
from conclave.db import Database
from conclave.identity.clock import Clock
from conclave.identity.commands import UpdateProfile
from conclave.identity.confirmation import Confirmation
from conclave.identity.errors import EmailTaken, UserNotFound, WrongPassword
from conclave.identity.new_passwords import NewPasswords
from conclave.identity.persons import person, person_or_owner
from conclave.identity.shapes import Account
from conclave.identity.user_repository import UserRepository
from schema.domain.identity import Principal
from schema.domain.users import User


class AccountService:
    """Only ever the caller's own row."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        passwords: NewPasswords,
        confirmation: Confirmation,
        clock: Clock,
    ) -> None:
        self._db = db
        self._audit = audit
        self._passwords = passwords
        self._confirmation = confirmation
        self._clock = clock
        self._users = UserRepository()

    async def me(self, principal: Principal) -> User:
        """Return the caller's account, or the one an API key belongs to."""
        user_id = person_or_owner(principal)
        async with self._db.autocommit() as tx:
            account = await self._users.by_id(tx, user_id)
        if account is None:
            raise UserNotFound(user_id)
        return account.public

    async def update(self, principal: Principal, command: UpdateProfile) -> User:
        """Change name or email; another email needs the present password.

        Raises `WrongPassword`, `EmailTaken`, `AccountLocked`.
        """
        user_id = person(principal)
        given = command.model_fields_set
        is_proven = False
        if "email" in given and command.email != (await self.me(principal)).email:
            if command.current_password is None:
                raise WrongPassword
            await self._confirmation.password(user_id, command.current_password)
            is_proven = True
        async with self._db.transaction() as tx:
            before = await self._users.locked(tx, user_id)
            if "email" in given and command.email != before.email:
                if not is_proven:  # it changed since it was looked at
                    raise WrongPassword
                if not await self._users.change_email(tx, user_id, command.email):
                    raise EmailTaken
            values: dict[str, object] = {"updated_at": self._clock()}
            if "full_name" in given:
                values["full_name"] = command.full_name
            await self._users.update(tx, user_id, values)
            after = await self._users.locked(tx, user_id)
            await self._audit.record(
                tx,
                "user_updated",
                "user",
                user_id,
                changes=changed(audited(before), audited(after)),
                principal=principal,
            )
        return after.public

    async def change_password(self, principal: Principal, current: str, new: str) -> None:
        """Replace the password and end the user's other sessions.

        Raises `WrongPassword`, `WeakPassword`, `PasswordReused`, `AccountLocked`.
        """
        user_id = person(principal)
        checked = await self._confirmation.password(user_id, current)
        hashed = await self._passwords.next(new, checked, field="new_password")
        async with self._db.transaction() as tx:
            account = await self._users.locked(tx, user_id)
            if account.password_changed_at != checked.password_changed_at:
                raise WrongPassword
            await self._passwords.put(
                tx, account, hashed, keep=principal.session_id, principal=principal
            )


def audited(account: Account) -> dict[str, JsonValue]:
    """Return what the audit log may know of an account."""
    return account.model_dump(
        mode="json", include={"email", "full_name", "role", "is_active", "mfa_enabled"}
    )

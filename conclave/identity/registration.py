"""How accounts come to be: by registering, or seeded from the environment at start."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from conclave.auditing import AuditLog
from conclave.db import Database, Transaction
from conclave.errors import ConclaveError, Unavailable
from conclave.identity.clock import Clock
from conclave.identity.commands import CreateUser, Register
from conclave.identity.emails import local_part, normal_email
from conclave.identity.errors import EmailTaken, RegistrationClosed, WeakPassword
from conclave.identity.new_passwords import NewPasswords
from conclave.identity.shapes import Account
from conclave.identity.user_repository import UserRepository
from conclave.logging import get_logger
from conclave.ports.identity import SecurityPolicy
from conclave.settings import AuthMode, Settings
from schema.domain.identity import Role
from schema.domain.security import RegistrationPolicy
from schema.domain.users import User

_log = get_logger(__name__)


@dataclass(frozen=True)
class Seed:
    """The first administrator, as ADMIN_EMAIL and ADMIN_PASSWORD name it."""

    email: str
    password: str

    @classmethod
    def of(cls, settings: Settings) -> Seed | None:
        """Return it where both are set."""
        password = settings.admin_password
        if not settings.admin_email or password is None or not password.get_secret_value():
            return None
        return cls(settings.admin_email, password.get_secret_value())


class RegistrationService:
    """The first account is an administrator's; one lock makes sure that it is one."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        policy: SecurityPolicy,
        passwords: NewPasswords,
        mode: AuthMode,
        seed: Seed | None,
        clock: Clock,
    ) -> None:
        self._db = db
        self._audit = audit
        self._policy = policy
        self._passwords = passwords
        self._mode = mode
        self._seed = seed
        self._clock = clock
        self._users = UserRepository()
        self._seeding = asyncio.Lock()

    async def register(self, command: Register) -> User:
        """Make an account: the first becomes admin, later ones get the policy's role.

        Raises `RegistrationClosed`, `WeakPassword`, `EmailTaken`.
        """
        await self.seed()
        config = await self._policy.current()
        async with self._db.autocommit() as tx:  # before the costly hash
            await self._role(tx, config.registration)
            if await self._users.by_email(tx, command.email) is not None:
                raise EmailTaken
        hashed = await self._passwords.first(command.password, command.email)
        async with self._db.transaction() as tx:
            await self._users.lock_administrators(tx)
            role = await self._role(tx, config.registration)
            account = await self.insert(
                tx,
                CreateUser(
                    email=command.email,
                    password=command.password,
                    full_name=command.full_name or local_part(command.email),
                    role=role,
                ),
                hashed,
            )
            await self._audit.record(
                tx,
                "user_registered",
                "user",
                account.id,
                changes={"email": account.email, "role": role.value},
                principal=account.principal,
            )
        return account.public

    async def insert(self, tx: Transaction, command: CreateUser, hashed: str) -> Account:
        """Store an account. Raises `EmailTaken`."""
        now = self._clock()
        user_id = await self._users.insert(
            tx,
            {
                "email": command.email,
                "full_name": command.full_name,
                "role": command.role.value,
                "password_hash": hashed,
                "password_changed_at": now,
                "created_at": now,
                "updated_at": now,
            },
        )
        if user_id is None:
            raise EmailTaken
        account = await self._users.by_id(tx, user_id)
        assert account is not None
        return account

    async def try_to_seed(self) -> None:
        """Make the administrator of the environment, or log in a sentence why there is none."""
        try:
            await self.seed()
        except RegistrationClosed as error:
            _log.error("administrator_not_seeded", reason=error.message)
        except Unavailable as error:  # the next login or registration tries again
            _log.warning("administrator_not_seeded_yet", reason=error.message)

    async def seed(self) -> None:
        """Make the administrator of the environment where there is no account at all.

        Nothing to do is success, so it may be called at any time by any process. Raises
        `RegistrationClosed` while it cannot be made: nobody else may become the first then.
        """
        async with self._seeding:
            if self._seed is None:
                return
            async with self._db.autocommit() as tx:
                exists = await self._users.any(tx)
            if not exists:
                await self._plant(self._seed)
            self._seed = None

    async def _plant(self, seed: Seed) -> None:
        try:
            email = normal_email(seed.email)
        except ValueError:
            raise _not_seeded("ADMIN_EMAIL is not an email address") from None
        try:
            hashed = await self._passwords.first(seed.password, email)
        except WeakPassword as error:
            raise _not_seeded(f"ADMIN_PASSWORD {'; '.join(error.flaws)}") from None
        command = CreateUser(
            email=email, password=seed.password, full_name=local_part(email), role=Role.ADMIN
        )
        async with self._db.transaction() as tx:
            await self._users.lock_administrators(tx)
            if await self._users.any(tx):
                return
            account = await self.insert(tx, command, hashed)
            await self._audit.record(
                tx,
                "user_created",
                "user",
                account.id,
                changes={"email": email, "role": Role.ADMIN.value, "seeded": True},
            )

    async def _role(self, tx: Transaction, policy: RegistrationPolicy) -> Role:
        """Return what a newcomer becomes. Raises `RegistrationClosed`."""
        if not await self._users.any(tx):
            return Role.ADMIN
        is_open = self._mode is AuthMode.LOCAL if policy.enabled is None else policy.enabled
        if not is_open:
            raise RegistrationClosed("Registration is closed: an administrator makes accounts")
        return policy.default_role


def _not_seeded(reason: str) -> ConclaveError:
    return RegistrationClosed(f"The administrator of ADMIN_EMAIL could not be made: {reason}")

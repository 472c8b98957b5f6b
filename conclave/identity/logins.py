"""Signing in, in one step or two. It never tells whether an address has an account."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from pydantic import JsonValue

from conclave.auditing import AuditLog
from conclave.db import Database, Transaction
from conclave.errors import ConclaveError
from conclave.identity.clock import Clock
from conclave.identity.commands import Login
from conclave.identity.errors import (
    AccountDisabled,
    InvalidCredentials,
    InvalidToken,
    WrongLoginCode,
)
from conclave.identity.lockout import Lockout
from conclave.identity.mfa_repository import MfaRepository
from conclave.identity.passwords import PasswordHasher
from conclave.identity.second_factor import SecondFactorService
from conclave.identity.sessions import SessionService
from conclave.identity.shapes import Account, MfaChallenge, Tokens
from conclave.identity.tokens import TokenSigner, TokenType
from conclave.identity.user_repository import UserRepository
from conclave.ports.identity import SecurityPolicy
from schema.domain.security import SecurityConfig

CHALLENGE_SECONDS = 300
MAX_WRONG_CODES = 5


class LoginService:
    """Passwords are checked between two transactions: no connection waits for a hash."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        policy: SecurityPolicy,
        hasher: PasswordHasher,
        lockout: Lockout,
        sessions: SessionService,
        second_factor: SecondFactorService,
        tokens: TokenSigner,
        clock: Clock,
        before_first_login: Callable[[], Awaitable[None]],
    ) -> None:
        self._db = db
        self._audit = audit
        self._policy = policy
        self._hasher = hasher
        self._lockout = lockout
        self._sessions = sessions
        self._second_factor = second_factor
        self._tokens = tokens
        self._clock = clock
        self._before_first_login = before_first_login
        self._users = UserRepository()
        self._factors = MfaRepository()

    async def log_in(self, command: Login) -> Tokens | MfaChallenge:
        """Begin a session, or ask for the second factor.

        Raises `InvalidCredentials`, `WrongLoginCode`, `AccountDisabled` after the right password
        only, `AccountLocked`, `HashingBusy`.
        """
        await self._before_first_login()
        config = await self._policy.current()
        async with self._db.autocommit() as tx:
            await self._lockout.check(tx, command.email)
            account = await self._users.by_email(tx, command.email)
        hashed = None if account is None else account.password_hash
        if not await self._hasher.matches(command.password, hashed) or account is None:
            raise await self._refused(command.email, account, config)
        renewed = await self._renewed(account, command.password)
        async with self._db.transaction() as tx:
            outcome = await self._after_password(tx, account, command.code, config)
            if renewed is not None and not isinstance(outcome, ConclaveError):
                await self._users.update(tx, account.id, {"password_hash": renewed})
        if isinstance(outcome, ConclaveError):
            raise outcome
        return outcome

    async def verify(self, temp_token: str, code: str) -> Tokens:
        """Finish a login that waits for its second factor.

        Raises `InvalidToken` for a token that is void, `WrongLoginCode`, `AccountDisabled`,
        `AccountLocked`.
        """
        claims = self._tokens.read(temp_token, TokenType.MFA)
        config = await self._policy.current()
        now = self._clock()
        async with self._db.transaction() as tx:
            account = await self._users.by_id(tx, claims.sub, lock=True)
            waits = await self._factors.lock_challenge(
                tx, claims.jti, claims.sub, now, most_failures=MAX_WRONG_CODES
            )
            if account is None or not account.mfa_enabled or not waits:
                raise InvalidToken("The temporary token does not hold")
            if not account.is_active:
                raise AccountDisabled
            outcome = await self._by_code(tx, account, code, config)
            if isinstance(outcome, ConclaveError):
                await self._factors.count_failure(tx, claims.jti)
            else:
                await self._factors.meet_challenge(tx, claims.jti, now)
        if isinstance(outcome, ConclaveError):
            raise outcome
        return outcome

    async def _after_password(
        self, tx: Transaction, checked: Account, code: str | None, config: SecurityConfig
    ) -> Tokens | MfaChallenge | ConclaveError:
        """Go on with the account as it is now: a moment passed while its password was checked."""
        account = await self._users.by_id(tx, checked.id, lock=True)
        if account is None or account.password_changed_at != checked.password_changed_at:
            return InvalidCredentials()
        await self._lockout.check(tx, account.email)
        if not account.is_active:
            await self._tell_failure(tx, account.email, account, "disabled")
            return AccountDisabled()
        if not account.mfa_enabled:
            return await self._begin(tx, account, "password", config)
        if code is None:
            return await self._challenge(tx, account)
        return await self._by_code(tx, account, code, config)

    async def _by_code(
        self, tx: Transaction, account: Account, code: str, config: SecurityConfig
    ) -> Tokens | ConclaveError:
        await self._lockout.check(tx, account.email)
        method = await self._second_factor.accept(tx, account, code)
        if method is not None:
            return await self._begin(tx, account, method, config)
        await self._tell_failure(tx, account.email, account, "code")
        locked = await self._lockout.failed(tx, account.email, config.lockout, account.id)
        return locked or WrongLoginCode()

    async def _begin(
        self, tx: Transaction, account: Account, method: str, config: SecurityConfig
    ) -> Tokens:
        await self._lockout.succeeded(tx, account.email)
        await self._users.update(tx, account.id, {"last_login_at": self._clock()})
        await self._audit.record(
            tx,
            "login_success",
            "user",
            account.id,
            changes={"method": method},
            principal=account.principal,
        )
        return await self._sessions.open(tx, account, config)

    async def _challenge(self, tx: Transaction, account: Account) -> MfaChallenge:
        jti = self._tokens.new_id()
        end = self._clock() + timedelta(seconds=CHALLENGE_SECONDS)
        await self._factors.insert_challenge(tx, jti, account.id, end)
        token = self._tokens.issue(
            TokenType.MFA,
            user_id=account.id,
            role=account.role,
            session_id=0,
            expires_at=end,
            jti=jti,
        )
        return MfaChallenge(temp_token=token, expires_in=CHALLENGE_SECONDS)

    async def _refused(
        self, email: str, account: Account | None, config: SecurityConfig
    ) -> ConclaveError:
        """Count the failure; the same work whether or not there is an account."""
        async with self._db.transaction() as tx:
            await self._tell_failure(tx, email, account, "password")
            user_id = None if account is None else account.id
            locked = await self._lockout.failed(tx, email, config.lockout, user_id)
        return locked or InvalidCredentials()

    async def _tell_failure(
        self, tx: Transaction, email: str, account: Account | None, reason: str
    ) -> None:
        changes: dict[str, JsonValue] = {"email": email, "reason": reason}
        user_id = None if account is None else account.id
        await self._audit.record(tx, "login_failed", "user", user_id, changes=changes)

    async def _renewed(self, account: Account, password: str) -> str | None:
        """Return a hash at the present cost where the stored one has another."""
        if not self._hasher.is_outdated(account.password_hash):
            return None
        return await self._hasher.hash(password)

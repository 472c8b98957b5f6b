"""Sessions: begun by a login, kept alive by refreshing, asked for at every request."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from conclave.auditing import AuditLog
from conclave.caller import current_caller
from conclave.db import Database, Transaction
from conclave.identity.clock import Clock
from conclave.identity.errors import (
    AccountDisabled,
    InvalidRefreshToken,
    InvalidToken,
    SessionNotFound,
    TokenExpired,
    TokenRevoked,
)
from conclave.identity.persons import person
from conclave.identity.session_repository import Horizon, SessionRepository
from conclave.identity.shapes import Account, Standing, Tokens
from conclave.identity.standing import (
    begun_after,
    limitation,
    mfa_setup_required,
    password_expired,
    untouched_since,
    used_after,
)
from conclave.identity.tokens import Claims, TokenSigner, TokenType
from conclave.identity.user_repository import UserRepository
from conclave.ports.identity import SecurityPolicy
from schema.domain.identity import Principal, PrincipalKind
from schema.domain.security import SecurityConfig
from schema.domain.users import UserSession

GRACE_SECONDS = 10
"""How long a refresh token that was exchanged is refused only: two tabs may have sent it."""


class SessionService:
    """What holds is asked of the record each time, so that what is revoked is refused at once."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        policy: SecurityPolicy,
        tokens: TokenSigner,
        clock: Clock,
    ) -> None:
        self._db = db
        self._audit = audit
        self._policy = policy
        self._tokens = tokens
        self._clock = clock
        self._sessions = SessionRepository()
        self._users = UserRepository()

    async def principal_of(self, claims: Claims) -> Principal:
        """Return who an access token stands for, by one query.

        Raises `InvalidToken`, `AccountDisabled`, `Unavailable`.
        """
        config = await self._policy.current()
        horizon = self._horizon(config)
        async with self._db.autocommit() as tx:
            standing = await self._sessions.standing(tx, claims.sid, claims.sub, horizon)
        if standing is None:
            raise InvalidToken("The credentials do not hold")
        _refuse_what_is_over(standing, horizon)
        return Principal(
            kind=PrincipalKind.USER,
            id=claims.sub,
            user_id=claims.sub,
            session_id=claims.sid,
            role=standing.role,
            limited=limitation(config, standing, horizon.now),
        )

    async def open(self, tx: Transaction, account: Account, config: SecurityConfig) -> Tokens:
        """Begin a session of its own for a login, ending the oldest where there are too many.

        The caller holds the lock on the account.
        """
        caller = current_caller.get()
        horizon = self._horizon(config)
        most = config.session.max_concurrent_sessions
        if most:
            oldest = await self._sessions.oldest(tx, account.id, horizon, beyond=most - 1)
            await self._end(tx, oldest, "too_many_sessions", account.principal)
        session_end = horizon.now + timedelta(hours=config.session.max_duration_hours)
        refresh_end = self._refresh_end(config, session_end)
        session_id = await self._sessions.insert(
            tx,
            {
                "user_id": account.id,
                "ip_address": _cut(caller.ip_address, 64),
                "user_agent": _cut(caller.user_agent, 512),
                "created_at": horizon.now,
                "last_active_at": horizon.now,
                "expires_at": refresh_end,
            },
        )
        return await self._issue(tx, account, config, session_id, refresh_end)

    async def refresh(self, refresh_token: str) -> Tokens:
        """Exchange a refresh token for the next pair.

        Raises `InvalidRefreshToken` for all that does not hold. One that was exchanged more than
        `GRACE_SECONDS` ago ends its session: somebody has a copy.
        """
        try:
            claims = self._tokens.read(refresh_token, TokenType.REFRESH)
        except InvalidToken:
            raise InvalidRefreshToken from None
        config = await self._policy.current()
        async with self._db.transaction() as tx:
            tokens = await self._exchange(tx, claims, config)
        if tokens is None:
            raise InvalidRefreshToken
        return tokens

    async def log_out(
        self, principal: Principal, refresh_token: str | None, *, all_sessions: bool
    ) -> None:
        """End the caller's session, the one of a refresh token of theirs, or all of theirs."""
        user_id = person(principal)
        ids = [] if principal.session_id is None else [principal.session_id]
        now = self._clock()
        async with self._db.transaction() as tx:
            if refresh_token is not None and not all_sessions:
                ids += await self._session_of(tx, refresh_token, user_id)
            if all_sessions:
                ended = await self._sessions.revoke_all(tx, user_id, "logout", now)
            else:
                ended = await self._sessions.revoke(tx, ids, "logout", now)
            await self._audit.record(
                tx, "logout", "user", user_id, changes={"sessions": [*ended]}, principal=principal
            )

    async def list(
        self, user_id: int | None, limit: int, offset: int
    ) -> tuple[Sequence[UserSession], int]:
        """Return living sessions, newest first, and how many there are."""
        horizon = self._horizon(await self._policy.current())
        async with self._db.transaction() as tx:
            return await self._sessions.list(tx, user_id, horizon, limit, offset)

    async def revoke(self, session_id: int) -> None:
        """End a session at once. Raises `SessionNotFound`."""
        horizon = self._horizon(await self._policy.current())
        async with self._db.transaction() as tx:
            if await self._sessions.get(tx, session_id, horizon, lock=True) is None:
                raise SessionNotFound(session_id)
            await self._end(tx, [session_id], "revoked", None)

    async def end_all(
        self, tx: Transaction, user_id: int, reason: str, *, keep: int | None = None
    ) -> None:
        """End a user's sessions, all but one, inside the change that is the reason."""
        ended = await self._sessions.revoke_all(tx, user_id, reason, self._clock(), keep=keep)
        await self._tell(tx, ended, reason, None)

    async def _exchange(
        self, tx: Transaction, claims: Claims, config: SecurityConfig
    ) -> Tokens | None:
        # The account first, as every other change of a session locks it.
        account = await self._users.by_id(tx, claims.sub, lock=True)
        horizon = self._horizon(config)
        if not await self._sessions.exchange(tx, claims.jti, horizon.now):
            await self._judge_reuse(tx, claims, horizon)
            return None
        session = await self._sessions.get(tx, claims.sid, horizon, lock=True)
        if session is None or account is None or session.user_id != account.id:
            return None
        if not account.is_active:
            return None
        end = session.created_at + timedelta(hours=config.session.max_duration_hours)
        refresh_end = self._refresh_end(config, end)
        await self._sessions.prolong(tx, session.id, horizon.now, refresh_end)
        return await self._issue(tx, account, config, session.id, refresh_end)

    async def _judge_reuse(self, tx: Transaction, claims: Claims, horizon: Horizon) -> None:
        token = await self._sessions.refresh_token(tx, claims.jti)
        if token is None or token.killed_at is None:
            return
        if horizon.now - token.killed_at <= timedelta(seconds=GRACE_SECONDS):
            return
        ended = await self._sessions.revoke(tx, [token.session_id], "refresh_reuse", horizon.now)
        if ended:
            owner = Principal(kind=PrincipalKind.USER, id=token.user_id, user_id=token.user_id)
            await self._audit.record(
                tx, "refresh_reuse", "session", token.session_id, principal=owner
            )

    async def _issue(
        self,
        tx: Transaction,
        account: Account,
        config: SecurityConfig,
        session_id: int,
        refresh_end: datetime,
    ) -> Tokens:
        now = self._clock()
        seconds = min(
            config.session.access_token_minutes * 60, int((refresh_end - now).total_seconds())
        )
        jti = self._tokens.new_id()
        await self._sessions.insert_refresh_token(tx, jti, session_id, now, refresh_end)

        def token(kind: TokenType, end: datetime, jti: str | None = None) -> str:
            return self._tokens.issue(
                kind,
                user_id=account.id,
                role=account.role,
                session_id=session_id,
                expires_at=end,
                jti=jti,
            )

        return Tokens(
            access_token=token(TokenType.ACCESS, now + timedelta(seconds=seconds)),
            refresh_token=token(TokenType.REFRESH, refresh_end, jti),
            expires_in=seconds,
            password_expired=password_expired(
                config.password_policy, account.password_changed_at, now
            ),
            mfa_setup_required=mfa_setup_required(
                config.mfa,
                mfa_enabled=account.mfa_enabled,
                created_at=account.created_at,
                now=now,
            ),
        )

    async def _session_of(self, tx: Transaction, refresh_token: str, user_id: int) -> Sequence[int]:
        """Return the session of a refresh token if it is the user's; what it is not is no error."""
        try:
            claims = self._tokens.read(refresh_token, TokenType.REFRESH)
        except InvalidToken:
            return []
        found = await self._sessions.refresh_token(tx, claims.jti)
        return [found.session_id] if found is not None and found.user_id == user_id else []

    async def _end(
        self, tx: Transaction, ids: Sequence[int], reason: str, principal: Principal | None
    ) -> None:
        if not ids:
            return
        ended = await self._sessions.revoke(tx, ids, reason, self._clock())
        await self._tell(tx, ended, reason, principal)

    async def _tell(
        self, tx: Transaction, ended: Sequence[int], reason: str, principal: Principal | None
    ) -> None:
        for session_id in ended:
            await self._audit.record(
                tx,
                "session_revoked",
                "session",
                session_id,
                changes={"reason": reason},
                principal=principal,
            )

    def _refresh_end(self, config: SecurityConfig, session_end: datetime) -> datetime:
        return min(self._clock() + timedelta(days=config.session.refresh_token_days), session_end)

    def _horizon(self, config: SecurityConfig) -> Horizon:
        now = self._clock()
        return Horizon(
            now=now,
            begun_after=begun_after(config.session, now),
            used_after=used_after(config.session, now),
            untouched_since=untouched_since(config.session, now),
        )


def _refuse_what_is_over(standing: Standing, horizon: Horizon) -> None:
    """Say the account first: a disabled one has no session that holds."""
    if not standing.is_active:
        raise AccountDisabled
    if standing.is_revoked:
        raise TokenRevoked("The session was ended")
    if (
        standing.expires_at <= horizon.now
        or standing.session_created_at <= horizon.begun_after
        or standing.last_active_at <= horizon.used_after
    ):
        raise TokenExpired("The session is over")


def _cut(text: str | None, length: int) -> str | None:
    """What a header says is stored only as far as it is printable."""
    if text is None:
        return None
    return "".join(letter for letter in text if letter.isprintable())[:length]

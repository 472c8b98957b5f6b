"""The identity services, put together: the container asks for all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conclave.auditing import AuditLog
from conclave.db import Database
from conclave.errors import Unauthenticated
from conclave.identity.accounts import AccountService
from conclave.identity.authenticator import CredentialAuthenticator
from conclave.identity.clock import Clock, utc_now
from conclave.identity.confirmation import Confirmation
from conclave.identity.lockout import Lockout
from conclave.identity.logins import LoginService
from conclave.identity.new_passwords import NewPasswords
from conclave.identity.password_rules import PasswordRules
from conclave.identity.passwords import Argon2Cost, PasswordHasher
from conclave.identity.registration import RegistrationService, Seed
from conclave.identity.second_factor import SecondFactorService
from conclave.identity.sessions import SessionService
from conclave.identity.shapes import Tokens
from conclave.identity.signing import signing_keys
from conclave.identity.tokens import TokenSigner, TokenType
from conclave.identity.upkeep import IdentityUpkeep
from conclave.identity.users import UserService
from conclave.ports.identity import ApiKeyVerifier, SecurityPolicy
from conclave.ports.secrets import SecretBox
from conclave.settings import Settings
from schema.domain.identity import Principal


@dataclass(frozen=True)
class Identity:
    """Everything about who somebody is."""

    accounts: AccountService
    logins: LoginService
    registration: RegistrationService
    second_factor: SecondFactorService
    sessions: SessionService
    users: UserService
    tokens: TokenSigner
    authenticator: CredentialAuthenticator
    upkeep: IdentityUpkeep
    hasher: PasswordHasher

    async def verify(
        self, principal: Principal | None, code: str, temp_token: str | None, bearer: str | None
    ) -> Tokens | Sequence[str]:
        """Finish a login, or turn on the second factor of who is signed in.

        `bearer` is what the request shows: a temporary token there counts as `temp_token`.
        `principal` is None where nobody asked whose it is.
        Returns tokens, or backup codes. Raises what `LoginService.verify` and
        `SecondFactorService.enable` do.
        """
        if temp_token is None and bearer is not None and self.tokens.is_of(bearer, TokenType.MFA):
            temp_token = bearer
        if temp_token is not None:
            return await self.logins.verify(temp_token, code)
        if principal is None and bearer is not None:
            principal = await self.authenticator.authenticate(bearer)
        if principal is None:
            raise Unauthenticated("Not authenticated")
        return await self.second_factor.enable(principal, code)

    def close(self) -> None:
        """Let the hashing threads go."""
        self.hasher.close()


def build_identity(
    settings: Settings,
    db: Database,
    policy: SecurityPolicy,
    box: SecretBox | None,
    *,
    api_keys: ApiKeyVerifier | None = None,
    cost: Argon2Cost | None = None,
    clock: Clock = utc_now,
) -> Identity:
    """Build the services. Raises `SigningKeyRefused` for a JWT_SECRET that is too short."""
    audit = AuditLog()
    tokens = TokenSigner(signing_keys(settings), clock)
    hasher = PasswordHasher(cost)
    lockout = Lockout(audit, clock)
    confirmation = Confirmation(db, policy, hasher, lockout)
    sessions = SessionService(db, audit, policy, tokens, clock)
    passwords = NewPasswords(db, audit, policy, PasswordRules(hasher), sessions, clock)
    second_factor = SecondFactorService(db, audit, policy, box, confirmation, clock)
    registration = RegistrationService(
        db, audit, policy, passwords, settings.auth_mode, Seed.of(settings), clock
    )
    gateway = settings.gateway_token
    return Identity(
        accounts=AccountService(db, audit, passwords, confirmation, clock),
        logins=LoginService(
            db,
            audit,
            policy,
            hasher,
            lockout,
            sessions,
            second_factor,
            tokens,
            clock,
            registration.try_to_seed,
        ),
        registration=registration,
        second_factor=second_factor,
        sessions=sessions,
        users=UserService(
            db, audit, passwords, registration, sessions, second_factor, lockout, clock
        ),
        tokens=tokens,
        authenticator=CredentialAuthenticator(
            None if gateway is None else gateway.get_secret_value(), tokens, sessions, api_keys
        ),
        upkeep=IdentityUpkeep(db),
        hasher=hasher,
    )

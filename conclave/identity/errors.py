"""What can go wrong with identities."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from conclave.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    Locked,
    NotFound,
    Unauthenticated,
    Unavailable,
)


class InvalidToken(Unauthenticated):
    """The credential is malformed, expired, revoked or of another type."""

    code = "invalid_token"


class TokenExpired(InvalidToken):
    """The token, or the session it belongs to, is over."""

    code = "token_expired"


class TokenRevoked(InvalidToken):
    """The session was ended."""

    code = "token_revoked"


class InvalidRefreshToken(Unauthenticated):
    """Unknown, expired, exchanged before, or of a session that is over. It never says which."""

    code = "invalid_refresh_token"

    def __init__(self) -> None:
        super().__init__("The refresh token does not hold")


class InvalidCredentials(Unauthenticated):
    """No such pair of email and password. It never says which of the two is wrong."""

    code = "invalid_credentials"

    def __init__(self) -> None:
        super().__init__("Invalid email or password")


class WrongLoginCode(Unauthenticated):
    """The second factor of a login does not fit, or was used before."""

    code = "invalid_mfa_code"

    def __init__(self) -> None:
        super().__init__("The code is wrong or was used before")


class WrongCode(BadRequest):
    """The code does not fit; the session that sent it stays."""

    code = "invalid_mfa_code"

    def __init__(self, message: str = "The code is wrong or was used before") -> None:
        super().__init__(message)


class WrongPassword(BadRequest):
    """The present password does not fit; the session that sent it stays."""

    code = "wrong_password"

    def __init__(self) -> None:
        super().__init__("The current password is wrong")


class AccountDisabled(Forbidden):
    """An administrator has closed the account."""

    code = "account_disabled"

    def __init__(self) -> None:
        super().__init__("This account is disabled")


class AccountLocked(Locked):
    """Too many failures; the right password does not help until the time is over."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("Too many failed attempts: try again later", retry_after)


class WeakPassword(BadRequest):
    """The new password breaks the policy; every flaw stands in `details.errors`."""

    code = "weak_password"

    def __init__(self, field: str, flaws: Sequence[str]) -> None:
        errors: list[JsonValue] = [
            {"field": f"body.{field}", "message": flaw, "type": "weak_password"} for flaw in flaws
        ]
        super().__init__(f"The password is too weak: {'; '.join(flaws)}", errors=errors)
        self.flaws = flaws


class PasswordReused(BadRequest):
    """The new password is one of the last ones."""

    code = "password_reused"

    def __init__(self, history_count: int) -> None:
        last = "the present one" if history_count == 1 else f"among the last {history_count}"
        super().__init__(f"The password was used before: it is {last}")


class EmailTaken(Conflict):
    """Another account has this address."""

    code = "email_taken"

    def __init__(self) -> None:
        super().__init__("This email is taken", field="email")


class RegistrationClosed(Forbidden):
    """Accounts are made by an administrator here."""

    code = "registration_closed"


class NoAccount(Forbidden):
    """The caller is not a person with an account."""

    code = "no_account"


class UserNotFound(NotFound):
    """No such account."""

    code = "user_not_found"

    def __init__(self, name: object) -> None:
        super().__init__(f"User {name} not found")


class SessionNotFound(NotFound):
    """No such session, or it is over."""

    code = "session_not_found"

    def __init__(self, session_id: int) -> None:
        super().__init__(f"Session {session_id} not found")


class LastAdministrator(Conflict):
    """Somebody must be able to administer: the last one stays."""

    code = "last_administrator"

    def __init__(self) -> None:
        super().__init__("This is the last active administrator", status="active")


class MfaAlreadyActive(Conflict):
    """The second factor is on; it is turned off before it is set up anew."""

    code = "mfa_already_active"

    def __init__(self) -> None:
        super().__init__("A second factor is active already", status="active")


class MfaNotActive(Conflict):
    """There is no second factor to turn off."""

    code = "mfa_not_active"

    def __init__(self) -> None:
        super().__init__("No second factor is active", status="inactive")


class MfaRequired(Forbidden):
    """The policy wants everybody to have a second factor."""

    code = "mfa_required"

    def __init__(self) -> None:
        super().__init__("The security policy requires a second factor")


class MfaUnavailable(Unavailable):
    """Secrets of second factors cannot be kept or read."""

    code = "mfa_unavailable"


class HashingBusy(Unavailable):
    """More passwords wait to be checked than this process lets wait."""

    code = "hashing_busy"

    def __init__(self) -> None:
        super().__init__("Too many passwords are being checked just now", 2.0)


class SigningKeyRefused(ValueError):
    """The keys that sign tokens are missing or too short; says what to set."""


class ApiKeyNotFound(NotFound):
    """No such key, a revoked one, or somebody else's."""

    code = "api_key_not_found"

    def __init__(self, key_id: int) -> None:
        super().__init__(f"API key {key_id} not found")

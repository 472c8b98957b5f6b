"""The one tree of errors.

Each class states a fact and carries its code, HTTP status and whether trying again can help.
Domains add their own below these; each dialect renders them in its own envelope.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import JsonValue


class ConclaveError(Exception):
    """The root. `message` is public: it names the field and the reason, never a secret."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **details: JsonValue) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, JsonValue] = details


class NotFound(ConclaveError):
    """Unknown, deleted, or not the caller's to see."""

    code = "not_found"
    status = 404


class Missing(NotFound):
    """A reference in a body to what does not exist; `details.field` names the field."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message, field=field)


class BudgetExhausted(ConclaveError):
    """A budget does not cover the most this call can cost."""

    code = "budget_exhausted"
    status = 402


class Conflict(ConclaveError):
    """The present state does not allow it, or the value is taken."""

    code = "conflict"
    status = 409


class Invalid(ConclaveError):
    """A value that does not fit; `field` says which (dotted, as the client sent it)."""

    code = "invalid"
    status = 422

    def __init__(self, field: str, message: str, **details: JsonValue) -> None:
        super().__init__(message, **details)
        self.field = field


class BadRequest(ConclaveError):
    """Cannot be read at all, or is refused by a rule."""

    code = "bad_request"
    status = 400


class Unauthenticated(ConclaveError):
    """No credentials, or none that hold."""

    code = "unauthenticated"
    status = 401


class Forbidden(ConclaveError):
    """Known, but not allowed."""

    code = "forbidden"
    status = 403


class Locked(ConclaveError):
    """Closed for a while after too many failures; `retry_after` is in seconds."""

    code = "locked"
    status = 423

    def __init__(self, message: str, retry_after: float, **details: JsonValue) -> None:
        super().__init__(message, **details)
        self.retry_after = retry_after


class TooManyRequests(ConclaveError):
    """Over a rate limit; `retry_after` is in seconds."""

    code = "too_many_requests"
    status = 429
    retryable = True

    def __init__(self, message: str, retry_after: float, **details: JsonValue) -> None:
        super().__init__(message, **details)
        self.retry_after = retry_after


class TooLarge(ConclaveError):
    """Over a size limit."""

    code = "too_large"
    status = 413


class Unavailable(ConclaveError):
    """Something this service stands on cannot be reached just now."""

    code = "unavailable"
    status = 503
    retryable = True

    def __init__(self, message: str, retry_after: float = 1.0, **details: JsonValue) -> None:
        super().__init__(message, **details)
        self.retry_after = retry_after


class CircuitOpen(Unavailable):
    """A circuit admits no call just now: nothing was sent. A retry may wait for it."""

    code = "circuit_open"

    def __init__(self, circuit: str, retry_after: float) -> None:
        message = f"{circuit} is not called just now: its circuit is open."
        super().__init__(message, retry_after, circuit=circuit)
        self.circuit = circuit


class CircuitStaysOpen(CircuitOpen):
    """The same, for a caller that does not wait: trying again is left to whoever asked."""

    retryable = False


class EncryptionKeyMissing(Unavailable):
    """A secret cannot be stored or read: ENCRYPTION_KEY is not set."""

    code = "encryption_key_missing"


class PublicFailure(ConclaveError):
    """A failure of ours (500) that clients are told of, always in the class's own sentence."""

    sentence: ClassVar[str] = "Internal server error"

    def __init__(self) -> None:
        super().__init__(self.sentence)


class SecretNotUsable(ConclaveError):
    """`secret://name` has no value just now: unknown, expired, or it cannot be decrypted.

    Trying again does not help before somebody has changed the secret or the reference.
    """

    code = "secret_not_usable"
    status = 409


class ExecutionClosed(ConclaveError):
    """The workflow run that was addressed is over: the conversation needs another one."""

    code = "execution_closed"
    status = 409


class ProviderError(ConclaveError):
    """A model provider did not answer as asked."""

    code = "provider_error"
    status = 502


class ProviderRefused(ProviderError):
    """The provider will say no again: a wrong key, an unknown model, a bad request."""

    code = "provider_refused"


class CredentialsRefused(ProviderRefused):
    """The provider does not take the key: nothing it is asked will be answered."""

    code = "credentials_refused"


class ProviderExhausted(ProviderRefused):
    """The provider could not answer, as often as one step asks: a later turn may find it back."""

    code = "provider_exhausted"


class ProviderUnavailable(ProviderError):
    """The provider may answer later. `retry_after` is in seconds, None when it did not say."""

    code = "provider_unavailable"
    status = 503
    retryable = True

    def __init__(
        self, message: str, retry_after: float | None = None, **details: JsonValue
    ) -> None:
        super().__init__(message, **details)
        self.retry_after = retry_after


class ProviderTimeout(ProviderUnavailable):
    """The provider did not answer in the time the call may take."""

    code = "provider_timeout"
    status = 504


class UrlRefused(Invalid):
    """The outgoing-URL guard does not let this address be reached."""

    code = "url_refused"


class SandboxRefused(Forbidden):
    """A command may not run: there is no sandbox for it, or not one as asked."""

    code = "sandbox_refused"


class WebFailed(ConclaveError):
    """A web server gave no answer, or none that can be read."""

    code = "web_failed"
    status = 502

"""What can go wrong with triggers."""

from __future__ import annotations

from conclave.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    TooLarge,
    Unauthenticated,
)


class TriggerNotFound(NotFound):
    """No such trigger."""

    code = "trigger_not_found"

    def __init__(self, trigger_id: int) -> None:
        super().__init__(f"Trigger {trigger_id} not found")


class SlugTaken(Conflict):
    """Another trigger has this address."""

    code = "name_taken"

    def __init__(self, slug: str) -> None:
        super().__init__(f"The slug {slug!r} is taken", field="config.slug")


class ActionNotPossible(Conflict):
    """The action cannot be done: by this build, or as things stand."""

    code = "action_not_possible"


class SourceUnknown(NotFound):
    """Nobody waits for webhooks under this slug."""

    code = "source_unknown"

    def __init__(self) -> None:
        super().__init__("No webhook is known under this address")


class SourceClosed(Forbidden):
    """A source without a configured secret takes nothing."""

    code = "source_closed"

    def __init__(self, source: str) -> None:
        super().__init__(f"The source {source} has no secret configured: it takes nothing")


class SignatureRefused(Unauthenticated):
    """Not signed, or not with this secret, or too long ago."""

    code = "signature_refused"


class DeliveryTooLarge(TooLarge):
    """Over the limit of what comes in from outside."""

    code = "delivery_too_large"

    def __init__(self, most: int) -> None:
        super().__init__(f"The body is larger than {most} bytes")


class DeliveryUnreadable(BadRequest):
    """Not JSON, or JSON that cannot be stored."""

    code = "delivery_unreadable"

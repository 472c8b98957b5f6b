"""What can go wrong with conversations."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from pydantic import JsonValue

from conclave.errors import CircuitOpen, Conflict, NotFound, ProviderError, Unavailable


class ConversationNotFound(NotFound):
    """No such conversation, or not the caller's."""

    code = "conversation_not_found"

    def __init__(self, conversation_id: int) -> None:
        super().__init__(f"Conversation {conversation_id} not found")


class ChatNotFound(NotFound):
    """No such chat, deleted, or not the caller's."""

    code = "chat_not_found"

    def __init__(self, chat_id: uuid.UUID) -> None:
        super().__init__(f"Chat {chat_id} not found")


class AgentUnknown(NotFound):
    """A new chat names an agent that does not exist."""

    code = "agent_not_found"

    def __init__(self, agent_id: int) -> None:
        super().__init__(f"Agent {agent_id} not found", field="agent_id")


class ProfileUnknown(NotFound):
    """A chat names a profile that does not exist."""

    code = "profile_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no profile {name[:64]!r}", field="profile")


class ProjectUnknown(NotFound):
    """A new chat names a project that does not exist."""

    code = "project_not_found"

    def __init__(self, project_id: int) -> None:
        super().__init__(f"Project {project_id} not found", field="project_id")


class ConversationEnded(Conflict):
    """It was ended: nothing more is said in it."""

    code = "conversation_ended"

    def __init__(self, conversation_id: int, status: str) -> None:
        super().__init__(f"Conversation {conversation_id} has ended: it is {status}", status=status)


class ConversationPaused(Conflict):
    """It is paused with its circle."""

    code = "conversation_paused"

    def __init__(self, conversation_id: int) -> None:
        super().__init__(
            f"Conversation {conversation_id} is paused: resume its circle first", status="paused"
        )


class CircleNotActive(Conflict):
    """Conversations start in active circles only."""

    code = "circle_not_active"

    def __init__(self, name: str, status: str) -> None:
        super().__init__(f"Circle '{name}' is not active: it is {status}", status=status)


class IdempotencyKeyReused(Conflict):
    """The key came before, with another request."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used before with a different request")


class TurnFailed(ProviderError):
    """The turn that answered this request could not be spoken; advance tries again."""

    code = "turn_failed"


class TurnNotCalled(Unavailable):
    """The turn was not spoken, because the circuit of its model's provider is open."""

    code = CircuitOpen.code

    @classmethod
    def told_by(cls, answer: Mapping[str, JsonValue]) -> TurnNotCalled | None:
        """Return the error that a request's stored answer tells of, None where it is another."""
        if answer.get("code") != cls.code:
            return None
        seconds = answer.get("retry_after")
        retry_after = float(seconds) if isinstance(seconds, int | float) else 1.0
        return cls(str(answer.get("error")), retry_after)


class LateAttempt(Conflict):
    """A later attempt of the same call took the fence: this one may not commit."""

    code = "late_attempt"


class PromptTooLong(ProviderError):
    """What the model must be sent does not fit into its window, however much is left out."""

    code = "prompt_too_long"

    def __init__(self, model: str, window: int) -> None:
        super().__init__(f"The prompt does not fit into the {window} tokens of {model}")


class CompactionFailed(ProviderError):
    """The model could not summarise; nothing was changed."""

    code = "compaction_failed"

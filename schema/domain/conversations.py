"""Conversations, their messages and who speaks next."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from schema.domain.base import Shape


class ConversationStatus(StrEnum):
    """Only an ended conversation is final; a completed one may still be advanced."""

    PENDING = "pending"
    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ConversationKind(StrEnum):
    """Where a conversation came from: a team's talk, an agent's session, a chat, or a task."""

    CONVERSATION = "conversation"
    SESSION = "session"
    CHAT = "chat"
    TASK = "task"
    """The transcript of a task's attempts: in no list of conversations."""

    @property
    def is_private(self) -> bool:
        """Whether only its owner sees it."""
        return self in {ConversationKind.SESSION, ConversationKind.CHAT}


class TurnStrategy(StrEnum):
    """Who speaks next."""

    ROUND_ROBIN = "round_robin"
    MENTION_BASED = "mention_based"
    FACILITATOR_LED = "facilitator_led"
    FREE_FORM = "free_form"


_OTHER_SPELLINGS = {
    "reactive": TurnStrategy.MENTION_BASED,
    "moderated": TurnStrategy.FACILITATOR_LED,
}


def parse_turn_strategy(value: object) -> object:
    """Return the stored spelling where the other one was sent; anything else unchanged."""
    return _OTHER_SPELLINGS.get(value, value) if isinstance(value, str) else value


class MessageRole(StrEnum):
    """Who a message is from, in the words of the model APIs."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


class Conversation(Shape):
    """A conversation as stored.

    `execution` counts its workflow runs: a completed conversation that is advanced again
    runs under a new workflow id. `final` is set by ending, archiving or deleting alone.
    """

    id: int
    kind: ConversationKind
    owner: str
    circle_id: int | None
    circle_name: str | None
    topic: str
    status: ConversationStatus
    reason: str | None
    final: bool
    agent_ids: list[int]
    turn_strategy: TurnStrategy
    facilitator_id: int | None
    auto_run: bool
    max_turns: int
    turn_count: int
    message_count: int
    execution: int
    workflow_id: str
    cost_usd: Decimal
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


class Message(Shape):
    """One message of a transcript; `seq` counts from 1 without gaps."""

    id: int
    conversation_id: int
    seq: int
    role: MessageRole
    agent_id: int | None
    agent_name: str | None
    content: str
    mentions: list[int]
    turn: int
    tokens_in: int
    tokens_out: int
    cost_usd: Decimal
    model: str | None
    created_at: datetime

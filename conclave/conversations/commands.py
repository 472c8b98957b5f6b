"""What can be asked of conversations, in the core's own shapes."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from schema.domain.base import Shape
from schema.domain.conversations import (
    Conversation,
    ConversationKind,
    ConversationStatus,
    Message,
    TurnStrategy,
)


class CreateConversation(Shape):
    """A new conversation. `turn_strategy` None: the circle's mode, else round robin."""

    topic: str
    agent_ids: list[int]
    circle_name: str | None = None
    initial_prompt: str | None = None
    max_turns: int = 20
    turn_strategy: TurnStrategy | None = None
    facilitator_id: int | None = None
    auto_run: bool = True


class CreateChat(Shape):
    """A new chat; without an agent it is the assistant's."""

    agent_id: int | None = None
    profile: str | None = None
    title: str | None = None
    project_id: int | None = None


class Advance(Shape):
    """One more turn; `agent_id` says who speaks, `idempotency_key` is the client's."""

    prompt: str | None = None
    agent_id: int | None = None
    idempotency_key: str | None = None


class Advanced(Shape):
    """What a request to advance led to; `finished` is False while its turn is to come."""

    conversation: Conversation
    messages: list[Message]
    finished: bool


class TurnUsage(Shape):
    """What the steps of a turn used."""

    input_tokens: int
    output_tokens: int
    cost_usd: Decimal


class TurnSnapshot(Shape):
    """What a turn left of its conversation: the stored answer of the request it answers."""

    status: ConversationStatus
    turn_count: int
    message_count: int
    execution: int
    workflow_id: str
    cost_usd: Decimal
    updated_at: datetime
    ended_at: datetime | None
    reason: str | None = None


class ConversationFilter(Shape):
    """Which conversations to list."""

    circle_name: str | None = None
    status: ConversationStatus | None = None
    kind: ConversationKind = ConversationKind.CONVERSATION
    agent_id: int | None = None
    owner: str | None = None

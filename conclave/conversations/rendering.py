"""Conversations and messages as events tell of them."""

from __future__ import annotations

from pydantic import JsonValue

from conclave.conversations.commands import TurnUsage
from schema.domain.conversations import (
    Conversation,
    ConversationKind,
    ConversationStatus,
    Message,
)
from schema.domain.events import EventDraft, EventType, conversation_stream
from schema.domain.tools import ToolAsker
from schema.payloads.tools import FinishInput


def message_event(
    message: Message,
    *,
    circle_id: int | None,
    owner: str | None,
    status: ConversationStatus,
    step: int | None = None,
    fallback_for: str | None = None,
) -> EventDraft:
    """A message was added; `status` is the conversation's after it, `step` that of a reply.

    `fallback_for` is the model that was wanted, where another one said it.
    """
    data = message_data(message, status)
    if step is not None:
        data["step"] = step
    if fallback_for is not None:
        data["fallback_for"] = fallback_for
    return EventDraft(
        stream=conversation_stream(message.conversation_id),
        type=EventType.MESSAGE_CREATED,
        data=data,
        conversation_id=message.conversation_id,
        circle_id=circle_id,
        agent_id=message.agent_id,
        owner=owner,
    )


def message_data(message: Message, status: ConversationStatus) -> dict[str, JsonValue]:
    """Return a message as events tell of it: the cost is a number in USD, as over REST."""
    told = message.model_dump(mode="json", exclude={"cost_usd"})
    return {**told, "cost_usd": float(message.cost_usd), "status": status.value}


def conversation_event(
    conversation: Conversation, type_: EventType, **data: JsonValue
) -> EventDraft:
    """Something about the conversation itself changed."""
    return EventDraft(
        stream=conversation_stream(conversation.id),
        type=type_,
        data={
            "conversation_id": conversation.id,
            "circle_name": conversation.circle_name,
            "agent_ids": list[JsonValue](conversation.agent_ids),
            "topic": conversation.topic,
            "status": conversation.status.value,
            "turn_count": conversation.turn_count,
            **data,
        },
        conversation_id=conversation.id,
        circle_id=conversation.circle_id,
        owner=private_owner_of(conversation.kind, conversation.owner),
    )


def turn_completed_event(
    asker: ToolAsker, turn: int, stop_reason: str, model: str | None, usage: TurnUsage
) -> EventDraft:
    """A turn of a chat is over."""
    return EventDraft(
        stream=conversation_stream(asker.conversation_id),
        type=EventType.TURN_COMPLETED,
        data={
            "conversation_id": asker.conversation_id,
            "turn": turn,
            "stop_reason": stop_reason,
            "model": model,
            "usage": {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "cost_usd": float(usage.cost_usd),
            },
        },
        conversation_id=asker.conversation_id,
        circle_id=asker.circle_id,
        agent_id=asker.agent_id,
        owner=asker.private_owner,
    )


def turn_stopped_event(conversation: Conversation, asked: FinishInput) -> EventDraft:
    """A turn ended without a last word: cancelled, or everything it asked for was denied."""
    return EventDraft(
        stream=conversation_stream(conversation.id),
        type=EventType.TURN_COMPLETED,
        data={
            "conversation_id": conversation.id,
            "turn": asked.turn,
            "stop_reason": asked.stop_reason,
            "model": None,
            "usage": {"input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0},
        },
        conversation_id=conversation.id,
        circle_id=conversation.circle_id,
        owner=private_owner_of(conversation.kind, conversation.owner),
    )


def private_owner_of(kind: str, owner: str) -> str | None:
    """Return who alone may see it, None where everybody may: sessions and chats are private."""
    return owner if ConversationKind(kind).is_private else None

"""Conversations and messages as events tell of them."""

from __future__ import annotations

from pydantic import JsonValue

from schema.domain.conversations import (
    Conversation,
    ConversationKind,
    ConversationStatus,
    Message,
)
from schema.domain.events import EventDraft, EventType, conversation_stream


def message_event(
    message: Message, *, circle_id: int | None, owner: str | None, status: ConversationStatus
) -> EventDraft:
    """A message was added; `status` is the conversation's after it."""
    return EventDraft(
        stream=conversation_stream(message.conversation_id),
        type=EventType.MESSAGE_CREATED,
        data=message_data(message, status),
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


def private_owner_of(kind: str, owner: str) -> str | None:
    """Return who alone may see it, None where everybody may: sessions and chats are private."""
    return None if kind == ConversationKind.CONVERSATION else owner

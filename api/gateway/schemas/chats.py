"""Chats as this dialect writes them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, JsonValue, StringConstraints

from api.gateway.schemas.fields import ChosenProfile, Id
from conclave.conversations.commands import CreateChat
from schema.domain.chats import Chat, ChatToolCall, ChatTurn
from schema.domain.compaction import COMPACTION_THRESHOLD, Compacted, ContextUse
from schema.domain.conversations import MessageRole
from schema.domain.tools import ExecutionStatus


class ChatIn(BaseModel):
    """A new chat; everything may be left out, the body too."""

    agent_id: Id | None = None
    profile: ChosenProfile | None = None
    title: (
        Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]
        | None
    ) = None
    project_id: Id | None = None

    def to_command(self) -> CreateChat:
        """Return it in the core's words."""
        return CreateChat.model_validate(self.model_dump())


class NewChatOut(BaseModel):
    """A chat just made."""

    chat_id: uuid.UUID
    title: str
    agent_id: int
    profile: str | None
    created_at: datetime

    @classmethod
    def from_domain(cls, chat: Chat) -> NewChatOut:
        """Return a chat in this dialect's shape."""
        return cls.model_validate(chat.model_dump())


class ChatOut(NewChatOut):
    """A chat in a list."""

    message_count: int
    updated_at: datetime

    @classmethod
    def from_domain(cls, chat: Chat) -> ChatOut:
        """Return a chat in this dialect's shape."""
        return cls.model_validate(chat.model_dump())


class ChatsOut(BaseModel):
    """A page of chats."""

    chats: list[ChatOut]

    @classmethod
    def of(cls, chats: Sequence[Chat]) -> ChatsOut:
        """Return chats in this dialect's shape."""
        return cls(chats=[ChatOut.from_domain(chat) for chat in chats])


class ToolCallOut(BaseModel):
    """A tool call of a reply, and what became of it."""

    id: str
    name: str
    arguments: dict[str, JsonValue]
    status: ExecutionStatus
    result: str | None
    is_error: bool

    @classmethod
    def from_domain(cls, call: ChatToolCall) -> ToolCallOut:
        """Return a call in this dialect's shape."""
        return cls.model_validate(call.model_dump())


class TurnOut(BaseModel):
    """One message of a chat."""

    role: MessageRole
    content: str
    tool_calls: list[ToolCallOut]
    created_at: datetime


class TranscriptOut(BaseModel):
    """All that was said in a chat."""

    chat_id: uuid.UUID
    turns: list[TurnOut]

    @classmethod
    def of(cls, chat_id: uuid.UUID, turns: Sequence[ChatTurn]) -> TranscriptOut:
        """Return a transcript in this dialect's shape."""
        dumped: list[dict[str, Any]] = [turn.model_dump() for turn in turns]
        return cls.model_validate({"chat_id": chat_id, "turns": dumped})


class ContextOut(BaseModel):
    """How full a chat's context is."""

    current_tokens: int
    context_window: int
    compaction_threshold: float
    turns: int
    model: str

    @classmethod
    def from_domain(cls, use: ContextUse) -> ContextOut:
        """Return it in this dialect's shape."""
        return cls(**use.model_dump(), compaction_threshold=COMPACTION_THRESHOLD)


class CompactedOut(BaseModel):
    """What a compaction saved."""

    tokens_before: int
    tokens_after: int
    turns_removed: int

    @classmethod
    def from_domain(cls, compacted: Compacted) -> CompactedOut:
        """Return it in this dialect's shape."""
        return cls.model_validate(compacted.model_dump())


class CancelledOut(BaseModel):
    """No turn runs any more."""

    cancelled: bool = True


class PanickedOut(BaseModel):
    """No turn runs any more, and nothing waits."""

    panicked: bool = True


class AllPanickedOut(PanickedOut):
    """The same for every chat of the caller."""

    sessions_affected: int

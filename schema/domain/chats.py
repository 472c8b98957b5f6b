"""Chats: conversations of one agent with the user whose they are."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum

from pydantic import JsonValue

from schema.domain.base import Shape
from schema.domain.conversations import MessageRole
from schema.domain.tools import ExecutionStatus


class ChatState(StrEnum):
    """What a chat does just now."""

    IDLE = "idle"
    RUNNING = "running"
    WAITING_APPROVAL = "waiting_approval"


class Chat(Shape):
    """A chat as its owner sees it; `conversation_id` is the core's own name for it."""

    conversation_id: int
    chat_id: uuid.UUID
    title: str
    agent_id: int
    profile: str | None
    """The one chosen for it; None: the default profile."""
    project_id: int | None
    message_count: int
    created_at: datetime
    updated_at: datetime


class PendingCall(Shape):
    """A tool call that waits for a yes."""

    tool_use_id: str
    tool_name: str
    arguments: dict[str, JsonValue]
    approval_id: int


class ChatStanding(Shape):
    """What a chat does, and what it waits for."""

    state: ChatState
    pending: list[PendingCall]
    attempt: int | None = None
    """The model call under way."""


class ChatToolCall(Shape):
    """A tool call of a reply, and what became of it."""

    id: str
    name: str
    arguments: dict[str, JsonValue]
    status: ExecutionStatus
    result: str | None
    is_error: bool


class ChatTurn(Shape):
    """One message of the transcript."""

    role: MessageRole
    content: str
    tool_calls: list[ChatToolCall]
    created_at: datetime

"""One model call of an agent's turn."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, Field

from schema.domain.conversations import ConversationStatus
from schema.domain.inbox import InboxItem
from schema.payloads.tools import ToolRef


class CompleteInput(BaseModel):
    """Which call: the reply is committed once per (execution, turn, step)."""

    conversation_id: int
    execution: int
    turn: int
    step: int
    """From 1; 0 is the call that compacts the conversation."""
    agent_id: int
    timeout: int
    """Seconds the model call may take."""
    inbox_id: int | None = None
    offer_tools: bool = True
    """False for the last step a turn may take: it has to end in words."""


class CallOutcome(StrEnum):
    """What a model call led to."""

    SPOKEN = "spoken"
    PAUSED = "paused"
    ENDED = "ended"
    SUPERSEDED = "superseded"
    BEHIND = "behind"
    """An earlier request of the inbox has to go first; `waiting` names it."""
    ALREADY_ANSWERED = "already_answered"
    """The request was answered by the turn named."""
    AGENT_GONE = "agent_gone"
    COMPACTED = "compacted"
    """The conversation had to be compacted first, by one model call: the same call again."""
    TOOLS_DENIED = "tools_denied"
    """Everything the turn asked for was denied, again and again: it is stopped."""


class CompleteResult(BaseModel):
    """Ids and counters of a committed reply."""

    outcome: CallOutcome
    turn: int
    status: ConversationStatus
    """Of the conversation after this call."""
    seq: int | None = None
    mentions: list[int] = Field(default_factory=list[int])
    """Agents the reply calls by @name, in order."""
    named: list[int] = Field(default_factory=list[int])
    """Agents the reply names without an @, in order."""
    cost_micro_usd: int = 0
    tool_calls: int = 0
    tools: list[ToolRef] = Field(default_factory=list[ToolRef])
    """The calls the reply asks for, judged, in its order."""
    waiting: list[InboxItem] = Field(default_factory=list[InboxItem])
    """Requests the record holds that are not answered yet, in order."""

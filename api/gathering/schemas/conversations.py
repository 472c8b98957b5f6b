"""Conversations as this dialect writes them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AliasChoices, BaseModel, Field, StringConstraints, field_validator

from api.gathering.schemas.fields import Id, Prompt
from conclave.conversations.commands import Advance, Advanced, CreateConversation
from schema.domain.conversations import (
    Conversation,
    ConversationStatus,
    Message,
    MessageRole,
    TurnStrategy,
    parse_turn_strategy,
)

MAX_PARTICIPANTS = 50
Topic = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class ConversationIn(BaseModel):
    """A new conversation: in a circle where one is named, else ad hoc."""

    topic: Topic
    agent_ids: list[Id] = Field(min_length=1, max_length=MAX_PARTICIPANTS)
    circle_name: Annotated[str, StringConstraints(max_length=50)] | None = None
    initial_prompt: Prompt | None = None
    max_turns: int = Field(default=20, ge=1, le=500)
    turn_strategy: TurnStrategy | None = None
    facilitator_id: Id | None = Field(
        default=None, validation_alias=AliasChoices("facilitator_id", "moderator_agent_id")
    )
    auto_run: bool = True

    @field_validator("turn_strategy", mode="before")
    @classmethod
    def _both_spellings(cls, value: object) -> object:
        return parse_turn_strategy(value)

    @field_validator("agent_ids")
    @classmethod
    def _each_once(cls, value: list[int]) -> list[int]:
        if len(set(value)) != len(value):
            raise ValueError("each agent takes part once")
        return value

    def to_command(self) -> CreateConversation:
        """Return it in the core's words."""
        return CreateConversation(
            topic=self.topic,
            agent_ids=self.agent_ids,
            circle_name=self.circle_name,
            initial_prompt=self.initial_prompt,
            max_turns=self.max_turns,
            turn_strategy=self.turn_strategy,
            facilitator_id=self.facilitator_id,
            auto_run=self.auto_run,
        )


class ConversationOut(BaseModel):
    """A conversation; `reason` says why it failed."""

    id: int
    circle_id: int | None
    circle_name: str | None
    topic: str
    status: ConversationStatus
    reason: str | None
    agent_ids: list[int]
    turn_strategy: TurnStrategy
    facilitator_id: int | None
    auto_run: bool
    max_turns: int
    turn_count: int
    message_count: int
    workflow_id: str
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def from_domain(cls, conversation: Conversation) -> ConversationOut:
        """Render one."""
        return cls(
            id=conversation.id,
            circle_id=conversation.circle_id,
            circle_name=conversation.circle_name,
            topic=conversation.topic,
            status=conversation.status,
            reason=conversation.reason,
            agent_ids=conversation.agent_ids,
            turn_strategy=conversation.turn_strategy,
            facilitator_id=conversation.facilitator_id,
            auto_run=conversation.auto_run,
            max_turns=conversation.max_turns,
            turn_count=conversation.turn_count,
            message_count=conversation.message_count,
            workflow_id=conversation.workflow_id,
            created_at=conversation.created_at,
            ended_at=conversation.ended_at,
        )


class MessageOut(BaseModel):
    """One message; `seq` counts from 1 without gaps, the cost is in USD."""

    id: int
    conversation_id: int
    seq: int
    role: MessageRole
    agent_id: int | None
    agent_name: str | None
    content: str
    mentions: list[int]
    tokens_in: int
    tokens_out: int
    cost_usd: float
    model: str | None
    created_at: datetime

    @classmethod
    def from_domain(cls, message: Message) -> MessageOut:
        """Render one."""
        return cls(
            id=message.id,
            conversation_id=message.conversation_id,
            seq=message.seq,
            role=message.role,
            agent_id=message.agent_id,
            agent_name=message.agent_name,
            content=message.content,
            mentions=message.mentions,
            tokens_in=message.tokens_in,
            tokens_out=message.tokens_out,
            cost_usd=float(message.cost_usd),
            model=message.model,
            created_at=message.created_at,
        )


class AdvanceIn(BaseModel):
    """What is said before the next turn, and who speaks it."""

    prompt: Prompt | None = None
    agent_id: Id | None = None

    def to_command(self, idempotency_key: str | None) -> Advance:
        """Return it in the core's words."""
        return Advance(prompt=self.prompt, agent_id=self.agent_id, idempotency_key=idempotency_key)


class AdvancedOut(BaseModel):
    """The conversation after the turn, and the messages the turn added."""

    conversation: ConversationOut
    messages: list[MessageOut]

    @classmethod
    def from_domain(cls, advanced: Advanced) -> AdvancedOut:
        """Render one."""
        return cls(
            conversation=ConversationOut.from_domain(advanced.conversation),
            messages=[MessageOut.from_domain(message) for message in advanced.messages],
        )

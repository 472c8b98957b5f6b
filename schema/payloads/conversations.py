"""What crosses the boundary of the conversation workflow: ids and counters, never text."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, Field

from schema.domain.conversations import ConversationKind, ConversationStatus, TurnStrategy
from schema.domain.inbox import InboxItem


class Floor(BaseModel):
    """Who may speak and who spoke: all that the choice of a speaker needs."""

    strategy: TurnStrategy
    agent_ids: list[int]
    facilitator_id: int | None = None
    last_speaker: int | None = None
    """The last agent that spoke."""
    last_in_order: int | None = None
    """The last agent that spoke in its round-robin turn, not because it was called."""
    recent: list[int] = Field(default_factory=list[int])
    mentioned: list[int] = Field(default_factory=list[int])
    """Who the last message calls upon, in order."""


class ConversationState(BaseModel):
    """Everything a run carries over: into its first workflow task and across continue-as-new."""

    conversation_id: int
    execution: int
    kind: ConversationKind
    circle_name: str | None
    floor: Floor
    labels: dict[int, str] = Field(default_factory=dict[int, str])
    """How Temporal's UI names each agent: `dev_alex asks claude-sonnet`."""
    auto_run: bool
    max_turns: int
    turn_count: int
    turn_timeout: int = 120
    """Seconds one model call may take."""
    status: ConversationStatus
    spent_micro_usd: int = 0
    inbox: list[InboxItem] = Field(default_factory=list[InboxItem])
    """Accepted and not yet answered, in order."""


class ConversationResult(BaseModel):
    """How a run ended."""

    status: ConversationStatus
    turn_count: int


class AdvanceOutcome(StrEnum):
    """What became of a request to advance."""

    SPOKEN = "spoken"
    FAILED = "failed"
    REFUSED = "refused"
    """The conversation was ended or paused before its turn came."""
    ACCEPTED = "accepted"
    """Still to come: the run continues as new; the record tells when it is answered."""


class AdvanceInput(BaseModel):
    """The wake-up that carries an inbox row's id and waits for its turn."""

    item: InboxItem


class AdvanceResult(BaseModel):
    """Where the answer stands in the record."""

    outcome: AdvanceOutcome
    turn: int | None = None


class WakeInput(BaseModel):
    """`wake` says: look at the record again. It carries nothing, so that it may come twice."""


class LookInput(BaseModel):
    """Which conversation to look at."""

    conversation_id: int
    execution: int


class LookResult(BaseModel):
    """What the record says."""

    status: ConversationStatus
    final: bool
    superseded: bool
    """A later execution owns this conversation."""
    inbox: list[InboxItem]
    cancel_turn: int | None = None
    """The turn that is to stop, where one is."""


class SettleInput(BaseModel):
    """Close a turn that cannot be spoken, or the whole conversation."""

    conversation_id: int
    execution: int
    status: ConversationStatus
    reason: str
    """A public sentence: error text of providers is cut and masked before it comes here."""
    inbox_id: int | None = None
    code: str | None = None
    """The error's, where one ended the turn: `budget_exhausted` is answered as such."""
    retry_after: float | None = None
    """Seconds after which asking again can help, where that is known."""


class SettleResult(BaseModel):
    """What the conversation's status is now."""

    status: ConversationStatus
    turn_count: int | None = None
    """Raised where the turn that failed had said something: its number is used up."""

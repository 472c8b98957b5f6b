"""What happened, as told to whoever watches."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import JsonValue

from schema.domain.base import Shape


class EventType(StrEnum):
    """The types of stored events and of the ephemeral text delta."""

    AGENT_CREATED = "agent.created"
    AGENT_UPDATED = "agent.updated"
    AGENT_DELETED = "agent.deleted"
    CIRCLE_CREATED = "circle.created"
    CIRCLE_UPDATED = "circle.updated"
    CIRCLE_STATUS = "circle.status"
    CIRCLE_DELETED = "circle.deleted"
    CIRCLE_MEMBER_ADDED = "circle.member_added"
    CIRCLE_MEMBER_REMOVED = "circle.member_removed"
    MEMORY_CREATED = "memory.created"
    MEMORY_DELETED = "memory.deleted"
    PROJECT_CREATED = "project.created"
    PROJECT_UPDATED = "project.updated"
    PROJECT_DELETED = "project.deleted"
    PROJECT_CHECKOUT = "project.checkout"
    CONVERSATION_CREATED = "conversation.created"
    CONVERSATION_STATUS = "conversation.status"
    MESSAGE_CREATED = "conversation.message"
    TURN_STARTED = "conversation.turn_started"
    TURN_FAILED = "conversation.turn_failed"
    TURN_COMPLETED = "conversation.turn_completed"
    COMPACTION_STARTED = "conversation.compaction_started"
    COMPACTED = "conversation.context_compacted"
    TOOL_REQUESTED = "conversation.tool_request"
    TOOL_STARTED = "conversation.tool_started"
    TOOL_RESULT = "conversation.tool_result"
    TOOL_DENIED = "conversation.tool_denied"
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_VOTED = "approval.voted"
    APPROVAL_ESCALATED = "approval.escalated"
    APPROVAL_DECIDED = "approval.decided"
    SECRET_EXPIRING = "secret.expiring"
    AGENT_STATUS = "agent.status"
    TASK_CREATED = "task.created"
    TASK_UPDATED = "task.updated"
    TASK_COMPLETED = "task.completed"
    TASK_FAILED = "task.failed"
    TASK_UNROUTABLE = "task.unroutable"
    DEAD_LETTER_ADDED = "dead_letter.added"
    WORKFLOW_STARTED = "workflow.started"
    WORKFLOW_COMPLETED = "workflow.completed"
    WORKFLOW_FAILED = "workflow.failed"
    TRIGGER_FIRED = "trigger.fired"
    CIRCUIT_CHANGED = "circuit.changed"
    BUDGET_THRESHOLD = "budget.threshold"
    SYSTEM_ALERT = "system.alert"
    NOTIFICATION = "notification"
    TEXT_DELTA = "conversation.text_delta"


ADMIN_OWNER = "admin"
"""As an event's owner: seen by administrators only, for no principal's key is this word."""


def conversation_stream(conversation_id: int) -> str:
    """Return the stream that everything about one conversation stands on."""
    return f"conversation-{conversation_id}"


class EventDraft(Shape):
    """An event about to be stored on `stream`; its sequence is assigned with the row."""

    stream: str
    type: EventType
    data: dict[str, JsonValue]
    conversation_id: int | None = None
    circle_id: int | None = None
    agent_id: int | None = None
    owner: str | None = None


class Event(EventDraft):
    """A stored event. `seq` grows by one within its stream; (xid, id) orders across streams."""

    id: int
    xid: int
    seq: int
    created_at: datetime


class Delta(Shape):
    """A piece of a reply while it is spoken: never stored, superseded by a later attempt.

    `offset` is the position in characters of `text` in the attempt's reply; a later attempt of
    the same step has a greater `attempt`. `owner` is set where the conversation is private.
    """

    conversation_id: int
    circle_id: int | None
    owner: str | None
    agent_id: int
    turn: int
    step: int
    attempt: int
    offset: int
    text: str

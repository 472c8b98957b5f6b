"""Storing a new conversation: one statement, because creating must cost next to nothing.

The row, the opening prompt, both events, the start that is owed and the audit log's entry are
stored together or not at all; agents that are gone or offline store nothing.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal

from pydantic import JsonValue, TypeAdapter
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Integer,
    String,
    Text,
    Uuid,
    bindparam,
    column,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from conclave.auditing import changed, entry_ctes, entry_parameters, entry_values
from conclave.conversations.rendering import message_data, private_owner_of
from conclave.conversations.repository import Participant, StoredConversation
from conclave.db import Transaction
from conclave.events import EventLog
from schema.domain.base import Shape
from schema.domain.conversations import ConversationStatus, Message, MessageRole
from schema.domain.events import EventType
from schema.payloads.names import conversation_workflow_id

_CREATE = (
    text(f"""
WITH fit AS (
  SELECT count(*) AS found, json_agg(json_build_object(
    'id', id, 'slug', slug, 'name', name, 'model', model, 'state', state)) AS agents
  FROM agents
  WHERE id = ANY (:agent_ids) AND deleted_at IS NULL AND state = 'active'
), new AS (
  INSERT INTO conversations (kind, owner, circle_id, topic, status, agent_ids, turn_strategy,
    facilitator_id, auto_run, max_turns, turn_timeout, last_seq, chat_id, profile, project_id)
  SELECT :kind, :owner, :circle_id, :topic, 'pending', :agent_ids, :turn_strategy,
    :facilitator_id, :auto_run, :max_turns, :turn_timeout, :last_seq,
    :chat_id, :profile, :project_id
  FROM fit WHERE found = cardinality(:agent_ids)
  RETURNING id, created_at, updated_at
), opening AS (
  INSERT INTO messages (conversation_id, seq, role, content, mentions, execution, turn, step)
  SELECT id, 1, 'user', :prompt, :mentions, 1, 0, 0 FROM new WHERE :last_seq = 1
  RETURNING id, conversation_id, created_at
), counted AS (
  INSERT INTO streams (name, last_seq) SELECT 'conversation-' || id, 1 + :last_seq FROM new
), told AS (
  INSERT INTO events (stream, seq, type, data, conversation_id, circle_id, owner)
  SELECT 'conversation-' || id, 1, :created_type,
    :created || jsonb_build_object('conversation_id', id), id, :circle_id, :private_owner
  FROM new
  UNION ALL
  SELECT 'conversation-' || conversation_id, 2, :opened_type,
    :opened || jsonb_build_object(
      'id', id, 'conversation_id', conversation_id, 'created_at', created_at),
    conversation_id, :circle_id, :private_owner
  FROM opening
), owed AS (
  INSERT INTO outbox (target_kind, target_id, due_at)
  SELECT 'conversation', id, clock_timestamp() + interval '2 seconds' FROM new WHERE :auto_run
  RETURNING id
), {entry_ctes("new", "new.id::text")}
SELECT new.*, fit.agents, (SELECT id FROM owed) AS owed FROM new, fit
""")
    .bindparams(
        bindparam("agent_ids", type_=ARRAY(BigInteger)),
        bindparam("kind", type_=String),
        bindparam("owner", type_=String),
        bindparam("circle_id", type_=BigInteger),
        bindparam("topic", type_=Text),
        bindparam("turn_strategy", type_=String),
        bindparam("facilitator_id", type_=BigInteger),
        bindparam("auto_run", type_=Boolean),
        bindparam("max_turns", type_=Integer),
        bindparam("turn_timeout", type_=Integer),
        bindparam("last_seq", type_=Integer),
        bindparam("chat_id", type_=Uuid),
        bindparam("profile", type_=String),
        bindparam("project_id", type_=BigInteger),
        bindparam("prompt", type_=Text),
        bindparam("mentions", type_=ARRAY(BigInteger)),
        bindparam("created_type", type_=String),
        bindparam("opened_type", type_=String),
        bindparam("created", type_=JSONB),
        bindparam("opened", type_=JSONB),
        bindparam("private_owner", type_=String),
        *entry_parameters(),
    )
    .columns(
        column("id", BigInteger),
        column("created_at", DateTime(timezone=True)),
        column("updated_at", DateTime(timezone=True)),
        column("agents", JSON),
        column("owed", BigInteger),
    )
)
_AGENTS = TypeAdapter(list[Participant])


class NewConversation(Shape):
    """The columns of a conversation about to be stored, and its opening prompt."""

    kind: str
    owner: str
    circle_id: int | None = None
    circle_name: str | None = None
    topic: str
    agent_ids: list[int]
    turn_strategy: str
    facilitator_id: int | None = None
    auto_run: bool
    max_turns: int
    turn_timeout: int
    prompt: str | None = None
    mentions: list[int] = []
    chat_id: uuid.UUID | None = None
    profile: str | None = None
    project_id: int | None = None


class Created(Shape):
    """A stored conversation, who takes part, and the start that is owed."""

    conversation: StoredConversation
    agents: list[Participant]
    mentions: list[int]
    owed: int | None


async def store(tx: Transaction, events: EventLog, new: NewConversation) -> Created | None:
    """Store a conversation; None, and nothing stored, where an agent is gone or offline."""
    private_owner = private_owner_of(new.kind, new.owner)
    values = new.model_dump(exclude={"circle_name"}) | {
        "last_seq": 0 if new.prompt is None else 1,
        "created_type": EventType.CONVERSATION_CREATED,
        "opened_type": EventType.MESSAGE_CREATED,
        "created": {
            "circle_name": new.circle_name,
            "agent_ids": new.agent_ids,
            "topic": new.topic,
            "status": ConversationStatus.PENDING,
            "turn_count": 0,
        },
        "opened": _opening(new),
        "private_owner": private_owner,
        **entry_values("conversation_created", "conversation", changes=changed({}, _rules(new))),
    }
    row = (await tx.conn.execute(_CREATE, values)).mappings().one_or_none()
    if row is None:
        return None
    events.tell_after_commit(tx)
    return Created(
        conversation=_stored(new, row["id"], row["created_at"]),
        agents=_AGENTS.validate_python(row["agents"]),
        mentions=new.mentions,
        owed=row["owed"],
    )


def _rules(new: NewConversation) -> dict[str, JsonValue]:
    """Return what the audit log tells of it: the rules, and nothing that is said."""
    hidden = {"topic", "prompt", "mentions", "circle_id", "owner"}
    return new.model_dump(mode="json", exclude=hidden)


def _opening(new: NewConversation) -> dict[str, JsonValue]:
    """Return the opening prompt as its event tells of it; the database adds what it assigns."""
    if new.prompt is None:
        return {}
    message = Message.model_construct(
        seq=1,
        role=MessageRole.USER,
        agent_id=None,
        agent_name=None,
        content=new.prompt,
        mentions=new.mentions,
        turn=0,
        tokens_in=0,
        tokens_out=0,
        cost_usd=Decimal(0),
        model=None,
    )
    return message_data(message, ConversationStatus.PENDING)


def _stored(new: NewConversation, conversation_id: int, now: datetime) -> StoredConversation:
    """Return the row as it was stored, without reading it back."""
    return StoredConversation.model_validate(
        {
            **new.model_dump(),
            "id": conversation_id,
            "circle_status": None if new.circle_id is None else "active",
            "status": ConversationStatus.PENDING,
            "reason": None,
            "final": False,
            "turn_count": 0,
            "message_count": 0 if new.prompt is None else 1,
            "execution": 1,
            "started": False,
            "fence": None,
            "workflow_id": conversation_workflow_id(conversation_id, 1),
            "cost_usd": 0,
            "created_at": now,
            "updated_at": now,
            "ended_at": None,
        }
    )

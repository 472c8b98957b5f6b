"""All SQL on conversations but the turn's own (`turn_repository`)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from pydantic import JsonValue, TypeAdapter
from sqlalchemy import BigInteger, bindparam, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.engine import RowMapping

from conclave.conversations.commands import ConversationFilter
from conclave.conversations.parameters import given
from conclave.conversations.turn_statements import CLOSE_CALL, MESSAGE_COLUMNS
from conclave.db import Transaction
from conclave.mailbox import WAITING
from schema.domain.base import Shape
from schema.domain.conversations import (
    Conversation,
    ConversationKind,
    ConversationStatus,
    Message,
    MessageRole,
)
from schema.domain.inbox import InboxStatus
from schema.payloads.names import conversation_workflow_id
from schema.tables.agents import AgentRow
from schema.tables.circles import CircleMemberRow, CircleRow
from schema.tables.conversations import ConversationRow, MessageRow
from schema.tables.inbox import InboxRow

_CONVERSATION = (
    ConversationRow.id,
    ConversationRow.kind,
    ConversationRow.owner,
    ConversationRow.circle_id,
    CircleRow.name.label("circle_name"),
    CircleRow.status.label("circle_status"),
    ConversationRow.topic,
    ConversationRow.status,
    ConversationRow.reason,
    ConversationRow.final,
    ConversationRow.agent_ids,
    ConversationRow.turn_strategy,
    ConversationRow.facilitator_id,
    ConversationRow.auto_run,
    ConversationRow.max_turns,
    ConversationRow.turn_timeout,
    ConversationRow.turn_count,
    ConversationRow.last_seq.label("message_count"),
    ConversationRow.execution,
    ConversationRow.started,
    ConversationRow.fence,
    ConversationRow.speaking_agent_id,
    ConversationRow.cancel_turn,
    ConversationRow.chat_id,
    ConversationRow.profile,
    ConversationRow.project_id,
    ConversationRow.permissions,
    ConversationRow.cost_usd,
    ConversationRow.created_at,
    ConversationRow.updated_at,
    ConversationRow.ended_at,
    ConversationRow.deleted_at,
)
_SELECT = select(*_CONVERSATION).outerjoin(CircleRow, CircleRow.id == ConversationRow.circle_id)
_PARTICIPANTS = select(
    AgentRow.id, AgentRow.slug, AgentRow.name, AgentRow.model, AgentRow.state
).where(
    AgentRow.id == func.any(bindparam("agent_ids_", type_=ARRAY(BigInteger))),
    AgentRow.deleted_at.is_(None),
)
_ASKED = bindparam("inbox_id_", type_=BigInteger)
_ADDED = select(func.json_agg(literal_column("messages", JSONB))).where(
    MessageRow.conversation_id == ConversationRow.id, MessageRow.inbox_id == _ASKED
)
_ANSWER = (
    select(
        *_CONVERSATION,
        InboxRow.status.label("inbox_status"),
        InboxRow.answer,
        _ADDED.scalar_subquery().label("messages"),
    )
    .select_from(ConversationRow)
    .outerjoin(CircleRow, CircleRow.id == ConversationRow.circle_id)
    .join(InboxRow, InboxRow.id == _ASKED)
    .where(ConversationRow.id == bindparam("conversation_id_", type_=BigInteger))
)
_GET = _SELECT.where(ConversationRow.id == bindparam("conversation_id_", type_=BigInteger))
_LOCK = _GET.with_for_update(of=ConversationRow)
RUNNING = (ConversationStatus.PENDING, ConversationStatus.ACTIVE)


_MESSAGES = TypeAdapter(list[Message])


class StoredConversation(Conversation):
    """A conversation with what only the core needs to know of it."""

    circle_status: str | None
    turn_timeout: int
    started: bool
    """A workflow was started for the present execution."""
    fence: int | None
    speaking_agent_id: int | None = None
    cancel_turn: int | None = None
    chat_id: uuid.UUID | None = None
    profile: str | None = None
    project_id: int | None = None
    permissions: dict[str, JsonValue] | None = None
    deleted_at: datetime | None = None


class Answer(Shape):
    """What became of a request."""

    conversation: StoredConversation
    inbox_status: InboxStatus
    snapshot: dict[str, JsonValue]
    """A `TurnSnapshot` where it was answered; `error` says why where it was not."""
    messages: list[Message]

    @property
    def is_answered(self) -> bool:
        """Whether nothing more will happen to the request."""
        return self.inbox_status not in WAITING


class Participant(Shape):
    """An agent as a conversation sees it."""

    id: int
    slug: str
    name: str
    model: str
    state: str


class CircleRules(Shape):
    """A circle as far as a new conversation asks."""

    id: int
    status: str
    config: dict[str, object]


class ConversationRepository:
    """Reads and writes conversations, their messages, and what they ask of agents and circles."""

    async def get(
        self, tx: Transaction, conversation_id: int, *, lock: bool = False
    ) -> StoredConversation | None:
        """Return a conversation; `lock` holds its row until the transaction ends."""
        found = await tx.conn.execute(
            _LOCK if lock else _GET, {"conversation_id_": conversation_id}
        )
        row = found.mappings().one_or_none()
        return None if row is None else _stored(row)

    async def list(
        self, tx: Transaction, wanted: ConversationFilter, *, limit: int, offset: int
    ) -> tuple[list[StoredConversation], int]:
        """Return a page, newest first, and the number of all."""
        statement = _SELECT.where(ConversationRow.kind == wanted.kind)
        if wanted.circle_name is not None:
            statement = statement.where(CircleRow.name == wanted.circle_name)
        if wanted.status is not None:
            statement = statement.where(ConversationRow.status == wanted.status)
        if wanted.agent_id is not None:
            statement = statement.where(ConversationRow.agent_ids.contains([wanted.agent_id]))
        if wanted.owner is not None:
            statement = statement.where(ConversationRow.owner == wanted.owner)
        total = await tx.conn.scalar(select(func.count()).select_from(statement.subquery()))
        rows = await tx.conn.execute(
            statement.order_by(ConversationRow.id.desc()).limit(limit).offset(offset)
        )
        return [_stored(row) for row in rows.mappings()], total or 0

    async def messages(
        self, tx: Transaction, conversation_id: int, *, after_seq: int, limit: int
    ) -> list[Message]:
        """Return messages in order."""
        rows = await tx.conn.execute(
            select(*MESSAGE_COLUMNS)
            .where(MessageRow.conversation_id == conversation_id, MessageRow.seq > after_seq)
            .order_by(MessageRow.seq)
            .limit(limit)
        )
        return [Message.model_validate(row) for row in rows.mappings()]

    async def answer(self, tx: Transaction, conversation_id: int, inbox_id: int) -> Answer | None:
        """Return a request's answer with the messages it added: its prompt and the reply."""
        row = await tx.conn.execute(
            _ANSWER, {"conversation_id_": conversation_id, "inbox_id_": inbox_id}
        )
        found = row.mappings().one_or_none()
        if found is None:
            return None
        return Answer(
            conversation=_stored(found),
            inbox_status=found["inbox_status"],
            snapshot=found["answer"] or {},
            messages=sorted(
                _MESSAGES.validate_python(found["messages"] or []), key=lambda added: added.seq
            ),
        )

    async def last_speakers(self, tx: Transaction, conversation_id: int, count: int) -> list[int]:
        """Return who spoke last, the latest at the end."""
        rows = await tx.conn.scalars(
            select(MessageRow.agent_id)
            .where(
                MessageRow.conversation_id == conversation_id,
                MessageRow.role == MessageRole.ASSISTANT,
            )
            .order_by(MessageRow.seq.desc())
            .limit(count)
        )
        return [agent for agent in reversed(rows.all()) if agent is not None]

    async def last_mentions(self, tx: Transaction, conversation_id: int) -> list[int]:
        """Return whom the last message calls upon."""
        found = await tx.conn.scalar(
            select(MessageRow.mentions)
            .where(MessageRow.conversation_id == conversation_id)
            .order_by(MessageRow.seq.desc())
            .limit(1)
        )
        return found or []

    async def participants(self, tx: Transaction, agent_ids: Sequence[int]) -> list[Participant]:
        """Return those of the agents that exist, in the order asked for."""
        rows = await tx.conn.execute(_PARTICIPANTS, {"agent_ids_": list(agent_ids)})
        found = {row["id"]: Participant.model_validate(row) for row in rows.mappings()}
        return [found[agent_id] for agent_id in agent_ids if agent_id in found]

    async def circle(self, tx: Transaction, name: str) -> CircleRules | None:
        """Return a circle and hold it, so that it cannot be paused meanwhile."""
        row = await tx.conn.execute(
            select(CircleRow.id, CircleRow.status, CircleRow.config)
            .where(CircleRow.name == name, CircleRow.deleted_at.is_(None))
            .with_for_update(read=True)
        )
        found = row.mappings().one_or_none()
        return None if found is None else CircleRules.model_validate(found)

    async def member_roles(self, tx: Transaction, circle_id: int) -> dict[int, str]:
        """Return the role of each member."""
        rows = await tx.conn.execute(
            select(CircleMemberRow.agent_id, CircleMemberRow.role).where(
                CircleMemberRow.circle_id == circle_id
            )
        )
        return {agent_id: role for agent_id, role in rows}

    async def running_in_circle(
        self, tx: Transaction, circle_id: int, statuses: Sequence[ConversationStatus] | None
    ) -> list[StoredConversation]:
        """Lock and return a circle's conversations that are not final."""
        statement = (
            _SELECT.where(ConversationRow.circle_id == circle_id, ConversationRow.final.is_(False))
            .order_by(ConversationRow.id)
            .with_for_update(of=ConversationRow)
        )
        if statuses is not None:
            statement = statement.where(ConversationRow.status.in_(statuses))
        rows = await tx.conn.execute(statement)
        return [_stored(row) for row in rows.mappings()]

    async def spoken_by(self, tx: Transaction, agent_id: int) -> list[StoredConversation]:
        """Lock and return the conversations in which an agent's turn runs, but those of tasks."""
        rows = await tx.conn.execute(
            _SELECT.where(
                ConversationRow.speaking_agent_id == agent_id,
                ConversationRow.final.is_(False),
                ConversationRow.kind != ConversationKind.TASK,
            )
            .order_by(ConversationRow.id)
            .with_for_update(of=ConversationRow)
        )
        return [_stored(row) for row in rows.mappings()]

    async def set_status(
        self,
        tx: Transaction,
        conversation_id: int,
        status: ConversationStatus,
        *,
        reason: str | None = None,
        final: bool = False,
    ) -> None:
        """Change the status. A status other than pending, active or paused stops the speaker."""
        stops = status not in (*RUNNING, ConversationStatus.PAUSED)
        values: dict[str, object] = {
            "status": status,
            "reason": reason,
            "updated_at": func.clock_timestamp(),
        }
        if stops:
            values |= {"speaking_agent_id": None, "fence": None}
            if status is not ConversationStatus.FAILED:
                values["ended_at"] = func.clock_timestamp()
        if final:
            values["final"] = True
        await tx.conn.execute(
            update(ConversationRow).where(ConversationRow.id == conversation_id).values(values)
        )

    async def has_spoken(self, tx: Transaction, stored: StoredConversation) -> bool:
        """Whether the turn under way has said something already: its number is used up then."""
        found = await tx.conn.scalar(
            select(MessageRow.id)
            .where(
                MessageRow.conversation_id == stored.id,
                MessageRow.execution == stored.execution,
                MessageRow.turn == stored.turn_count + 1,
                MessageRow.role == MessageRole.ASSISTANT,
            )
            .limit(1)
        )
        return found is not None

    async def use_up_turn(self, tx: Transaction, conversation_id: int, turn: int) -> None:
        """Close a turn without a last word: nobody speaks, and its number is not given again."""
        await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == conversation_id)
            .values(
                turn_count=func.greatest(ConversationRow.turn_count, turn),
                speaking_agent_id=None,
                fence=None,
                cancel_turn=None,
                updated_at=func.clock_timestamp(),
            )
        )

    async def cancel_turn(self, tx: Transaction, conversation_id: int, turn: int) -> None:
        """Ask for the turn of that number to stop."""
        await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == conversation_id)
            .values(cancel_turn=turn)
        )

    async def next_execution(self, tx: Transaction, conversation_id: int, after: int) -> None:
        """Move on to another run, unless somebody already did."""
        await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == conversation_id, ConversationRow.execution == after)
            .values(execution=after + 1, started=False)
        )

    async def settle_cut_call(self, tx: Transaction, call_id: int) -> None:
        """Settle a call that was cut at its worst case: it may have been billed."""
        await tx.conn.execute(CLOSE_CALL, given(call_id=call_id, error_code=None, was_billed=True))


def _stored(row: RowMapping) -> StoredConversation:
    workflow_id = conversation_workflow_id(row["id"], row["execution"])
    return StoredConversation.model_validate({**row, "workflow_id": workflow_id})

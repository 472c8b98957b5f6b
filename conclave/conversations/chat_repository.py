"""All SQL that chats alone need."""

from __future__ import annotations

import uuid

from pydantic import TypeAdapter
from sqlalchemy import exists, func, literal, literal_column, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by
from sqlalchemy.engine import RowMapping

from conclave.db import Transaction
from conclave.mailbox import WAITING
from schema.domain.chats import Chat, ChatToolCall, ChatTurn, PendingCall
from schema.domain.conversations import ConversationKind, MessageRole
from schema.domain.tools import ExecutionStatus
from schema.tables.conversations import ConversationRow, MessageRow
from schema.tables.inbox import InboxRow
from schema.tables.profiles import ProfileRow
from schema.tables.projects import ProjectRow
from schema.tables.tools import ToolExecutionRow

_CHAT = (
    ConversationRow.id.label("conversation_id"),
    ConversationRow.chat_id,
    ConversationRow.topic.label("title"),
    ConversationRow.agent_ids,
    ConversationRow.profile,
    ConversationRow.project_id,
    ConversationRow.last_seq.label("message_count"),
    ConversationRow.created_at,
    ConversationRow.updated_at,
)
_LIVING = (
    ConversationRow.kind == ConversationKind.CHAT,
    ConversationRow.chat_id.is_not(None),
    ConversationRow.deleted_at.is_(None),
)
_CALLS = (
    select(
        func.json_agg(aggregate_order_by(literal_column("call", JSONB), literal_column("place")))
    )
    .select_from(
        select(
            func.json_build_object(
                literal("id"),
                ToolExecutionRow.tool_use_id,
                literal("name"),
                ToolExecutionRow.tool_name,
                literal("arguments"),
                ToolExecutionRow.arguments,
                literal("status"),
                ToolExecutionRow.status,
                literal("result"),
                ToolExecutionRow.result,
                literal("is_error"),
                ToolExecutionRow.is_error,
            ).label("call"),
            ToolExecutionRow.position.label("place"),
        )
        .where(
            ToolExecutionRow.conversation_id == MessageRow.conversation_id,
            ToolExecutionRow.execution == MessageRow.execution,
            ToolExecutionRow.turn == MessageRow.turn,
            ToolExecutionRow.step == MessageRow.step,
        )
        .correlate(MessageRow)
        .subquery("calls")
    )
    .scalar_subquery()
)

_CALL_LIST = TypeAdapter(list[ChatToolCall])


class ChatRepository:
    """Reads see living chats only."""

    async def conversation_id(self, tx: Transaction, chat_id: uuid.UUID) -> int | None:
        """Return the id of a chat's conversation."""
        return await tx.conn.scalar(
            select(ConversationRow.id).where(ConversationRow.chat_id == chat_id, *_LIVING)
        )

    async def list(
        self, tx: Transaction, owner: str | None, limit: int, offset: int
    ) -> tuple[list[Chat], int]:
        """Return a page of one owner's or of all, the latest activity first, and how many."""
        wanted = [*_LIVING]
        if owner is not None:
            wanted.append(ConversationRow.owner == owner)
        total = await tx.conn.scalar(select(func.count(ConversationRow.id)).where(*wanted))
        rows = await tx.conn.execute(
            select(*_CHAT)
            .where(*wanted)
            .order_by(ConversationRow.updated_at.desc(), ConversationRow.id.desc())
            .limit(limit)
            .offset(offset)
        )
        return [_chat(row) for row in rows.mappings()], total or 0

    async def get(self, tx: Transaction, conversation_id: int) -> Chat:
        """Return a chat that is known to be there."""
        rows = await tx.conn.execute(select(*_CHAT).where(ConversationRow.id == conversation_id))
        return _chat(rows.mappings().one())

    async def turns(self, tx: Transaction, conversation_id: int) -> list[ChatTurn]:
        """Return the transcript in order, each reply with its tool calls."""
        rows = await tx.conn.execute(
            select(
                MessageRow.role, MessageRow.content, MessageRow.created_at, _CALLS.label("calls")
            )
            .where(MessageRow.conversation_id == conversation_id)
            .order_by(MessageRow.seq)
        )
        return [
            ChatTurn(
                role=row.role,
                content=row.content,
                created_at=row.created_at,
                tool_calls=_CALL_LIST.validate_python(row.calls or [])
                if row.role == MessageRole.ASSISTANT
                else [],
            )
            for row in rows
        ]

    async def pending(self, tx: Transaction, conversation_id: int) -> list[PendingCall]:
        """Return the calls that wait for a yes, in the order they were asked for."""
        rows = await tx.conn.execute(
            select(
                ToolExecutionRow.tool_use_id,
                ToolExecutionRow.tool_name,
                ToolExecutionRow.arguments,
                ToolExecutionRow.approval_id,
            )
            .where(
                ToolExecutionRow.conversation_id == conversation_id,
                ToolExecutionRow.status == ExecutionStatus.WAITING,
                ToolExecutionRow.approval_id.is_not(None),
            )
            .order_by(ToolExecutionRow.id)
        )
        return [PendingCall.model_validate(row) for row in rows.mappings()]

    async def busy(self, tx: Transaction, owner: str | None) -> list[int]:
        """Return the chats in which a turn runs or a message waits."""
        target = func.concat(literal("conversation-"), ConversationRow.id)
        waits = exists().where(InboxRow.target == target, InboxRow.status.in_(WAITING))
        statement = select(ConversationRow.id).where(
            or_(ConversationRow.speaking_agent_id.is_not(None), waits), *_LIVING
        )
        if owner is not None:
            statement = statement.where(ConversationRow.owner == owner)
        return list(await tx.conn.scalars(statement.order_by(ConversationRow.id)))

    async def holds_profile(self, tx: Transaction, name: str) -> bool:
        """Whether there is such a profile; it stays until the transaction ends."""
        statement = select(ProfileRow.name).where(ProfileRow.name == name)
        return await tx.conn.scalar(statement.with_for_update(read=True)) is not None

    async def holds_project(self, tx: Transaction, project_id: int) -> bool:
        """Whether there is such a project; it stays until the transaction ends."""
        statement = select(ProjectRow.id).where(
            ProjectRow.id == project_id, ProjectRow.deleted_at.is_(None)
        )
        return await tx.conn.scalar(statement.with_for_update(read=True)) is not None

    async def set_profile(self, tx: Transaction, conversation_id: int, name: str) -> None:
        """Choose the profile of the chat's next model call."""
        await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == conversation_id)
            .values(profile=name)
        )

    async def delete(self, tx: Transaction, conversation_id: int) -> None:
        """Mark a chat as deleted."""
        await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == conversation_id)
            .values(deleted_at=func.clock_timestamp())
        )


def _chat(row: RowMapping) -> Chat:
    return Chat.model_validate({**row, "agent_id": row["agent_ids"][0]})

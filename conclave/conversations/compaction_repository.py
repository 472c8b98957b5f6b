"""All SQL on compactions, and on what they ask of conversations and the ledger."""

from __future__ import annotations

from datetime import date

from sqlalchemy import and_, func, insert, null, select, update

from conclave.conversations.context import Compaction, Round
from conclave.conversations.parameters import given
from conclave.conversations.turn_statements import SETTLE_CALL
from conclave.db import Transaction
from schema.domain.base import Shape
from schema.domain.conversations import MessageRole
from schema.domain.llm import ModelReply
from schema.payloads.agent_turn import CompleteInput
from schema.tables.agents import AgentRow
from schema.tables.compactions import CompactionRow
from schema.tables.conversations import ConversationRow, MessageRow
from schema.tables.inbox import InboxRow
from schema.tables.model_calls import ModelCallRow

_CUT = ("cancelled", "late_attempt")
_MAY_ANSWER_LATER = ("provider_unavailable", "provider_timeout")


class Tries(Shape):
    """What a turn tried since the last summary."""

    begun: int
    failed: int
    refused: int
    """Failures after which another try cannot help."""


class ContextFacts(Shape):
    """What the record says of how full a conversation's window is."""

    profile: str | None
    provider: str | None
    model: str | None
    context_tokens: int | None
    context_window: int | None
    context_model: str | None
    compacted_seq: int
    turns: int
    """User turns that no summary stands in for."""
    bytes: int
    """Of all messages that no summary stands in for."""


class CompactionRepository:
    """Reads and writes compactions."""

    async def last(self, tx: Transaction, conversation_id: int) -> Compaction | None:
        """Return the latest summary."""
        rows = await tx.conn.execute(
            select(
                CompactionRow.through_seq,
                CompactionRow.summary,
                CompactionRow.tokens_before,
                CompactionRow.tokens_after,
                CompactionRow.turns_removed,
                CompactionRow.finished,
                CompactionRow.call_id,
            )
            .where(CompactionRow.conversation_id == conversation_id)
            .order_by(CompactionRow.through_seq.desc())
            .limit(1)
        )
        found = rows.mappings().one_or_none()
        return None if found is None else Compaction.model_validate(found)

    async def tries(self, tx: Transaction, call: CompleteInput, after_call: int) -> Tries:
        """Return what was tried after a call, for the request that is answered and no other."""
        asked_at = select(InboxRow.created_at).where(InboxRow.id == call.inbox_id).scalar_subquery()
        failed = ModelCallRow.error_code.not_in(_CUT)
        refused = and_(failed, ModelCallRow.error_code.not_in(_MAY_ANSWER_LATER))
        rows = await tx.conn.execute(
            select(
                func.count().label("begun"),
                func.count().filter(failed).label("failed"),
                func.count().filter(refused).label("refused"),
            ).where(
                ModelCallRow.conversation_id == call.conversation_id,
                ModelCallRow.execution == call.execution,
                ModelCallRow.turn == call.turn,
                ModelCallRow.step == 0,
                ModelCallRow.id > after_call,
                ModelCallRow.created_at >= func.coalesce(asked_at, ModelCallRow.created_at),
            )
        )
        return Tries.model_validate(rows.mappings().one())

    async def pass_fence(
        self,
        tx: Transaction,
        call: CompleteInput,
        call_id: int,
        done: Round,
        reply: ModelReply,
        tokens_after: int,
    ) -> bool:
        """Let a summary stand in for its messages, if the fence is still its call's."""
        between_turns = call.step == 0
        moved = await tx.conn.execute(
            update(ConversationRow)
            .where(
                ConversationRow.id == call.conversation_id,
                ConversationRow.fence == call_id,
                ConversationRow.final.is_(False),
                ConversationRow.compacted_seq < done.through_seq,
            )
            .values(
                fence=None,
                speaking_agent_id=null() if between_turns else ConversationRow.speaking_agent_id,
                compacted_seq=done.through_seq,
                context_tokens=tokens_after,
                cost_usd=ConversationRow.cost_usd + reply.cost_usd,
                updated_at=func.clock_timestamp(),
            )
        )
        return moved.rowcount == 1

    async def add(
        self, tx: Transaction, conversation_id: int, compaction: Compaction, reply: ModelReply
    ) -> date | None:
        """Store a summary and settle the call that wrote it.

        Returns what `TurnRepository.add_reply` returns besides the message.
        """
        await tx.conn.execute(
            insert(CompactionRow).values(
                conversation_id=conversation_id, model=reply.model, **compaction.model_dump()
            )
        )
        settled = await tx.conn.execute(
            SETTLE_CALL,
            given(
                call_id=compaction.call_id,
                model=reply.model,
                cost_usd=reply.cost_usd,
                tokens_in=reply.tokens_in,
                tokens_out=reply.tokens_out,
            ),
        )
        return settled.scalar_one_or_none()

    async def fall_silent(self, tx: Transaction, conversation_id: int) -> None:
        """Say that nobody speaks: a compaction between turns is over."""
        await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == conversation_id)
            .values(speaking_agent_id=None)
        )

    async def facts(self, tx: Transaction, conversation_id: int) -> ContextFacts | None:
        """Return what `ContextUse` is made of; its agent is the conversation's first."""
        said = (
            select(
                func.count().filter(MessageRow.role == MessageRole.USER).label("turns"),
                func.coalesce(func.sum(func.octet_length(MessageRow.content)), 0).label("bytes"),
            )
            .where(
                MessageRow.conversation_id == ConversationRow.id,
                MessageRow.seq > ConversationRow.compacted_seq,
            )
            .lateral()
        )
        rows = await tx.conn.execute(
            select(
                ConversationRow.profile,
                AgentRow.provider,
                AgentRow.model,
                ConversationRow.context_tokens,
                ConversationRow.context_window,
                ConversationRow.context_model,
                ConversationRow.compacted_seq,
                said.c.turns,
                said.c.bytes,
            )
            .select_from(ConversationRow)
            .join(said, onclause=ConversationRow.id == conversation_id)
            .outerjoin(AgentRow, AgentRow.id == ConversationRow.agent_ids[1])
            .where(ConversationRow.id == conversation_id)
        )
        found = rows.mappings().one_or_none()
        return None if found is None else ContextFacts.model_validate(found)

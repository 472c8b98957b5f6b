"""The SQL of a turn: the hot path, so each step is one statement.

A call opens with `opening` (which locks the conversation), `claim` where a request is answered,
`transcript` and `reserve`; it closes with `commit_reply`, or with `close_call` where there is no
reply. `reserve` takes the fence and `commit_reply` needs it: a late attempt finds it gone.
"""

from __future__ import annotations

from decimal import Decimal

from pydantic import JsonValue
from sqlalchemy import and_, case, delete, func, insert, literal, select, update

from conclave.conversations.commands import TurnSnapshot
from conclave.db import Transaction
from conclave.mailbox import WAITING
from schema.domain.agents import AgentConfig, Personality
from schema.domain.base import Shape
from schema.domain.conversations import ConversationStatus, Message, MessageRole
from schema.domain.inbox import InboxStatus
from schema.domain.llm import ModelReply
from schema.payloads.agent_turn import CompleteInput
from schema.payloads.names import conversation_workflow_id
from schema.tables.agents import AgentRow
from schema.tables.circles import CircleRow
from schema.tables.conversations import ConversationRow, MessageRow
from schema.tables.inbox import InboxRow, OutboxRow
from schema.tables.model_calls import ModelCallRow

_TRANSCRIPT_MESSAGES = 400
_TRANSCRIPT_CHARACTERS = 200_000
"""What a prompt holds of a transcript: its latest part within both limits."""


class Opening(Shape):
    """Everything the record says of a call about to be made."""

    status: ConversationStatus
    final: bool
    execution: int
    turn_count: int
    last_seq: int
    fence: int | None
    circle_id: int | None
    circle_name: str | None
    kind: str
    owner: str
    topic: str
    max_turns: int
    agent_ids: list[int]
    agent_id: int | None
    agent_slug: str | None
    agent_name: str | None
    agent_role: str | None
    agent_state: str | None
    provider: str | None
    model: str | None
    personality: Personality | None
    background: dict[str, JsonValue] | None
    config: AgentConfig | None
    inbox_status: InboxStatus | None
    inbox_turn: int | None
    prompt: str | None
    prompt_mentions: list[int] | None
    behind: bool
    """An earlier request is not answered yet."""
    is_replied: bool
    """This very step was committed by an earlier attempt."""
    failures: int
    """Times the provider could not answer this step."""


class TranscriptLine(Shape):
    """A message as far as a prompt needs it."""

    seq: int
    role: MessageRole
    agent_id: int | None
    agent_name: str | None
    content: str


class TurnRepository:
    """Reads and writes what one model call needs and leaves."""

    async def opening(self, tx: Transaction, call: CompleteInput, target: str) -> Opening | None:
        """Lock the conversation and read all that decides whether and how to call."""
        earlier = (
            select(literal(True))
            .where(
                InboxRow.target == target,
                InboxRow.id < (call.inbox_id or 0),
                InboxRow.status.in_(WAITING),
            )
            .exists()
        )
        statement = (
            select(
                ConversationRow.status,
                ConversationRow.final,
                ConversationRow.execution,
                ConversationRow.turn_count,
                ConversationRow.last_seq,
                ConversationRow.fence,
                ConversationRow.circle_id,
                CircleRow.name.label("circle_name"),
                ConversationRow.kind,
                ConversationRow.owner,
                ConversationRow.topic,
                ConversationRow.max_turns,
                ConversationRow.agent_ids,
                AgentRow.id.label("agent_id"),
                AgentRow.slug.label("agent_slug"),
                AgentRow.name.label("agent_name"),
                AgentRow.role.label("agent_role"),
                AgentRow.state.label("agent_state"),
                AgentRow.provider,
                AgentRow.model,
                AgentRow.personality,
                AgentRow.background,
                AgentRow.config,
                InboxRow.status.label("inbox_status"),
                InboxRow.turn.label("inbox_turn"),
                InboxRow.prompt,
                InboxRow.mentions.label("prompt_mentions"),
                earlier.label("behind"),
                select(MessageRow.id).where(_reply_of(call)).exists().label("is_replied"),
                _failures_of(call),
            )
            .outerjoin(CircleRow, CircleRow.id == ConversationRow.circle_id)
            .outerjoin(AgentRow, and_(AgentRow.id == call.agent_id, AgentRow.deleted_at.is_(None)))
            .outerjoin(InboxRow, InboxRow.id == call.inbox_id)
            .where(ConversationRow.id == call.conversation_id)
            .with_for_update(of=ConversationRow)
        )
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else Opening.model_validate(row)

    async def claim(
        self, tx: Transaction, call: CompleteInput, opening: Opening, target: str
    ) -> Message | None:
        """Take a request in hand: it is no longer owed, and its prompt joins the transcript.

        Returns the prompt's message, None where the request has none or was claimed before.
        """
        owed = delete(OutboxRow).where(OutboxRow.inbox_id == call.inbox_id).cte("owed")
        await tx.conn.execute(
            update(InboxRow)
            .where(InboxRow.id == call.inbox_id, InboxRow.target == target)
            .values(status=InboxStatus.CLAIMED, turn=call.turn)
            .add_cte(owed)
        )
        if opening.prompt is None or opening.inbox_status is not InboxStatus.PENDING:
            return None
        added = await tx.conn.execute(
            insert(MessageRow)
            .values(
                conversation_id=call.conversation_id,
                seq=opening.last_seq + 1,
                role=MessageRole.USER,
                content=opening.prompt,
                mentions=opening.prompt_mentions or [],
                execution=call.execution,
                turn=call.turn,
                step=0,
                inbox_id=call.inbox_id,
            )
            .returning(*MessageRow.__table__.c)
        )
        return Message.model_validate(added.mappings().one())

    async def transcript(self, tx: Transaction, conversation_id: int) -> list[TranscriptLine]:
        """Return the latest part of the transcript, in order."""
        latest = (
            select(
                MessageRow.seq,
                MessageRow.role,
                MessageRow.agent_id,
                MessageRow.agent_name,
                MessageRow.content,
            )
            .where(MessageRow.conversation_id == conversation_id)
            .order_by(MessageRow.seq.desc())
            .limit(_TRANSCRIPT_MESSAGES)
        )
        lines: list[TranscriptLine] = []
        size = 0
        for row in (await tx.conn.execute(latest)).mappings():
            line = TranscriptLine.model_validate(row)
            size += len(line.content)
            if lines and size > _TRANSCRIPT_CHARACTERS:
                break
            lines.append(line)
        return lines[::-1]

    async def participant_names(self, tx: Transaction, agent_ids: list[int]) -> dict[int, str]:
        """Return the names of the agents that take part, in their order."""
        rows = await tx.conn.execute(
            select(AgentRow.id, AgentRow.name).where(AgentRow.id.in_(agent_ids))
        )
        names = {agent_id: name for agent_id, name in rows}
        return {agent_id: names[agent_id] for agent_id in agent_ids if agent_id in names}

    async def reserve(
        self,
        tx: Transaction,
        call: CompleteInput,
        *,
        attempt: int,
        provider: str,
        model: str,
        worst_case: Decimal,
        prompts: int,
    ) -> int:
        """Store the call before it is sent and take the fence; return the call's id."""
        stored = (
            insert(ModelCallRow)
            .values(
                conversation_id=call.conversation_id,
                execution=call.execution,
                turn=call.turn,
                step=call.step,
                attempt=attempt,
                agent_id=call.agent_id,
                provider=provider,
                model=model,
                status="reserved",
                reserved_usd=worst_case,
            )
            .returning(ModelCallRow.id)
            .cte("stored")
        )
        status = case(
            (ConversationRow.status == ConversationStatus.COMPLETED, ConversationRow.status),
            (ConversationRow.status == ConversationStatus.PAUSED, ConversationRow.status),
            else_=ConversationStatus.ACTIVE,
        )
        result = await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == call.conversation_id)
            .values(
                fence=select(stored.c.id).scalar_subquery(),
                speaking_agent_id=call.agent_id,
                last_seq=ConversationRow.last_seq + prompts,
                status=status,
                reason=None,
                started=True,
                updated_at=func.clock_timestamp(),
            )
            .returning(ConversationRow.fence)
        )
        fence = result.scalar_one()
        if fence is None:
            raise AssertionError("a call was stored without an id")
        return fence

    async def commit_reply(
        self,
        tx: Transaction,
        call: CompleteInput,
        call_id: int,
        reply: ModelReply,
        *,
        agent_name: str,
        mentions: list[int],
        ends: bool,
    ) -> tuple[Message, TurnSnapshot] | None:
        """Commit the reply, the usage and the settled cost; None where the fence was lost."""
        speaks_last = not reply.tool_calls
        status = case(
            (
                (ConversationRow.status == ConversationStatus.COMPLETED) | literal(ends),
                ConversationStatus.COMPLETED,
            ),
            else_=ConversationRow.status,
        )
        fenced = (
            update(ConversationRow)
            .where(
                ConversationRow.id == call.conversation_id,
                ConversationRow.fence == call_id,
                ConversationRow.final.is_(False),
            )
            .values(
                fence=None,
                speaking_agent_id=None if speaks_last else ConversationRow.speaking_agent_id,
                last_seq=ConversationRow.last_seq + 1,
                turn_count=call.turn if speaks_last else ConversationRow.turn_count,
                cost_usd=ConversationRow.cost_usd + reply.cost_usd,
                status=status,
                ended_at=case((literal(ends), func.clock_timestamp()), else_=None),
                updated_at=func.clock_timestamp(),
            )
            .returning(
                ConversationRow.status,
                ConversationRow.turn_count,
                ConversationRow.last_seq.label("message_count"),
                ConversationRow.execution,
                ConversationRow.cost_usd,
                ConversationRow.updated_at,
                ConversationRow.ended_at,
            )
        )
        moved = (await tx.conn.execute(fenced)).mappings().one_or_none()
        if moved is None:
            return None
        workflow_id = conversation_workflow_id(call.conversation_id, moved["execution"])
        snapshot = TurnSnapshot.model_validate({**moved, "workflow_id": workflow_id})
        settled = (
            update(ModelCallRow)
            .where(ModelCallRow.id == call_id)
            .values(
                status="committed",
                model=reply.model,
                cost_usd=reply.cost_usd,
                tokens_in=reply.tokens_in,
                tokens_out=reply.tokens_out,
                ended_at=func.clock_timestamp(),
            )
            .cte("settled")
        )
        added = await tx.conn.execute(
            insert(MessageRow)
            .values(
                conversation_id=call.conversation_id,
                seq=snapshot.message_count,
                role=MessageRole.ASSISTANT,
                agent_id=call.agent_id,
                agent_name=agent_name,
                content=reply.text,
                mentions=mentions,
                tool_calls=[tool.model_dump() for tool in reply.tool_calls] or None,
                execution=call.execution,
                turn=call.turn,
                step=call.step,
                inbox_id=call.inbox_id,
                model=reply.model,
                tokens_in=reply.tokens_in,
                tokens_out=reply.tokens_out,
                cost_usd=reply.cost_usd,
            )
            .returning(*MessageRow.__table__.c)
            .add_cte(settled)
        )
        return Message.model_validate(added.mappings().one()), snapshot

    async def committed_reply(
        self, tx: Transaction, call: CompleteInput
    ) -> tuple[Message, ConversationStatus]:
        """Return the reply an earlier attempt committed, and the conversation's status."""
        row = await tx.conn.execute(
            select(*MessageRow.__table__.c, ConversationRow.status)
            .join(ConversationRow, ConversationRow.id == MessageRow.conversation_id)
            .where(_reply_of(call))
        )
        found = row.mappings().one()
        return Message.model_validate(found), ConversationStatus(found["status"])

    async def close_call(
        self, tx: Transaction, call_id: int, *, error_code: str, was_billed: bool
    ) -> None:
        """Settle a call without a reply: at its worst case where it may have been billed."""
        cost = ModelCallRow.reserved_usd if was_billed else literal(Decimal(0))
        settled = (
            update(ModelCallRow)
            .where(ModelCallRow.id == call_id, ModelCallRow.status == "reserved")
            .values(
                status="unknown" if was_billed else "failed",
                error_code=error_code,
                cost_usd=cost,
                ended_at=func.clock_timestamp(),
            )
            .returning(ModelCallRow.cost_usd, ModelCallRow.conversation_id)
            .cte("settled")
        )
        await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == settled.c.conversation_id)
            .values(
                cost_usd=ConversationRow.cost_usd + settled.c.cost_usd,
                fence=case((ConversationRow.fence == call_id, None), else_=ConversationRow.fence),
            )
        )


def _reply_of(call: CompleteInput):  # noqa: ANN202 - the SQLAlchemy type says nothing more
    return and_(
        MessageRow.conversation_id == call.conversation_id,
        MessageRow.execution == call.execution,
        MessageRow.turn == call.turn,
        MessageRow.step == call.step,
        MessageRow.role == MessageRole.ASSISTANT,
    )


def _failures_of(call: CompleteInput):  # noqa: ANN202 - the SQLAlchemy type says nothing more
    return (
        select(func.count())
        .where(
            ModelCallRow.conversation_id == call.conversation_id,
            ModelCallRow.execution == call.execution,
            ModelCallRow.turn == call.turn,
            ModelCallRow.step == call.step,
            ModelCallRow.status == "failed",
            ModelCallRow.error_code.is_not(None),
        )
        .scalar_subquery()
        .label("failures")
    )

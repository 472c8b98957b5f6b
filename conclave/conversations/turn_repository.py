"""The SQL of a turn: the hot path, so each step is one statement.

A call opens with `opening` (which locks the conversation), `claim` where a request is answered,
`transcript` and `reserve`; it closes with `pass_fence` and `add_reply`, or with `close_call` where
there is no reply. `reserve` takes the fence and `pass_fence` needs it: a late attempt finds it
gone.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from pydantic import JsonValue
from sqlalchemy.engine import RowMapping

from conclave.conversations import turn_statements as statements
from conclave.conversations.commands import TurnSnapshot, TurnUsage
from conclave.conversations.parameters import given
from conclave.conversations.usage_statements import USAGE, USED_TOKENS
from conclave.db import Transaction
from schema.domain.agents import AgentConfig, Personality, RiskRules
from schema.domain.base import Shape
from schema.domain.conversations import ConversationStatus, Message, MessageRole
from schema.domain.inbox import InboxItem, InboxStatus
from schema.domain.llm import ModelReply, ToolCall
from schema.payloads.agent_turn import CompleteInput
from schema.payloads.names import conversation_workflow_id

_TRANSCRIPT_CHARACTERS = 16_000_000
"""A bound for the memory of one call, beyond the largest windows: compaction begins before it."""


class FallbackModel(Shape):
    """A model that stands in for an agent's own."""

    provider: str
    model: str


class Opening(Shape):
    """Everything the record says of a call about to be made."""

    status: ConversationStatus
    final: bool
    execution: int
    turn_count: int
    last_seq: int
    fence: int | None
    circle_id: int | None
    kind: str
    owner: str
    topic: str
    max_turns: int
    agent_ids: list[int]
    agent_id: int | None
    agent_name: str | None
    agent_role: str | None
    agent_state: str | None
    provider: str | None
    model: str | None
    personality: Personality | None
    background: dict[str, JsonValue] | None
    config: AgentConfig | None
    system_prompt: str | None
    risk_rules: RiskRules | None
    inbox_status: InboxStatus | None
    inbox_turn: int | None
    names: dict[int, str] | None
    project_id: int | None
    permissions: dict[str, JsonValue] | None
    profile: str | None
    compacted_seq: int
    """The transcript up to here is summarised."""
    circle_config: dict[str, JsonValue] | None
    task_id: int | None
    """The task that is worked on here."""
    required_tools: list[str] | None
    behind: bool
    """An earlier request is not answered yet."""
    is_replied: bool
    """This very step was committed by an earlier attempt."""
    failed: list[str]
    """The models that could not answer this step, `provider/model`, in the order of the tries."""
    fallback_models: list[FallbackModel] | None

    @property
    def participants(self) -> dict[int, str]:
        """The names of those who take part, in their order."""
        names = self.names or {}
        return {agent_id: names[agent_id] for agent_id in self.agent_ids if agent_id in names}


class ToolAnswer(Shape):
    """What one call answered."""

    id: str
    content: str


class TranscriptLine(Shape):
    """A message as far as a prompt needs it."""

    seq: int
    turn: int
    role: MessageRole
    agent_id: int | None
    agent_name: str | None
    content: str
    tool_calls: list[ToolCall] | None = None
    results: list[ToolAnswer] | None = None
    """What the calls answered, in their order; those without an answer are left out."""


class Passage(TurnSnapshot):
    """What passing the fence tells: the conversation after it, and what still waits."""

    waiting: list[InboxItem]


class CommittedReply(Message):
    """A reply found committed, with the conversation as it is now."""

    status: ConversationStatus
    waiting: list[InboxItem]
    names: dict[int, str] | None
    tool_calls: list[ToolCall] | None


class StoredCall(Shape):
    """A call that was stored, and what may limit it."""

    call_id: int
    is_budgeted: bool
    spent_usd: Decimal
    """What the conversation's calls have cost."""
    task_id: int | None
    budget_usd: Decimal | None
    max_tokens: int
    """0 where nothing limits them, or the conversation is no task's."""


class TurnRepository:
    """Reads and writes what one model call needs and leaves."""

    async def opening(self, tx: Transaction, call: CompleteInput, target: str) -> Opening | None:
        """Lock the conversation and read all that decides whether and how to call."""
        values = given(
            **_place(call), agent_id=call.agent_id, inbox_id=call.inbox_id, target=target
        )
        row = await _opening(tx, values)
        if row is not None and row["was_changed"]:
            row = await _opening(tx, values)
        return None if row is None else Opening.model_validate(row)

    async def claim(
        self, tx: Transaction, call: CompleteInput, target: str, *, seq: int
    ) -> Message | None:
        """Take a request in hand; its prompt becomes message `seq`.

        Returns that message, None where the request has none or was claimed before.
        """
        added = await tx.conn.execute(
            statements.CLAIM,
            given(**_place(call), inbox_id=call.inbox_id, target=target, seq=seq),
        )
        row = added.mappings().one_or_none()
        return None if row is None else Message.model_validate(row)

    async def transcript(
        self, tx: Transaction, conversation_id: int, *, after_seq: int
    ) -> list[TranscriptLine]:
        """Return what was said after a message, in order."""
        latest = await tx.conn.execute(
            statements.TRANSCRIPT,
            given(conversation_id=conversation_id, after_seq=after_seq),
        )
        lines: list[TranscriptLine] = []
        size = 0
        for row in latest.mappings():
            line = TranscriptLine.model_validate(row)
            size += len(line.content)
            if lines and size > _TRANSCRIPT_CHARACTERS:
                break
            lines.append(line)
        return lines[::-1]

    async def reserve(
        self,
        tx: Transaction,
        call: CompleteInput,
        *,
        attempt: int,
        provider: str,
        model: str,
        worst_case: Decimal,
        is_unpriced: bool,
        reserved_tokens: int,
        day: date,
        prompts: int,
        context_tokens: int,
        context_window: int,
        fallback_for: str | None = None,
    ) -> StoredCall:
        """Store the call before it is sent and take the fence.

        `prompts` says how many messages were claimed before it: 0 or 1. `context_tokens` is the
        size of the conversation's prompt, `fallback_for` the model that was wanted where this is
        another one.
        """
        result = await tx.conn.execute(
            statements.RESERVE,
            given(
                **_place(call),
                agent_id=call.agent_id,
                attempt=attempt,
                provider=provider,
                model=model,
                worst_case=worst_case,
                is_unpriced=is_unpriced,
                reserved_tokens=reserved_tokens,
                day=day,
                prompts=prompts,
                context_tokens=context_tokens,
                context_window=context_window,
                fallback_for=fallback_for,
            ),
        )
        return StoredCall.model_validate(result.mappings().one())

    async def pass_fence(
        self,
        tx: Transaction,
        call: CompleteInput,
        call_id: int,
        reply: ModelReply,
        target: str,
        *,
        ends: bool,
    ) -> Passage | None:
        """Move the conversation on by this reply; None where the fence was lost."""
        result = await tx.conn.execute(
            statements.PASS_FENCE,
            given(
                conversation_id=call.conversation_id,
                call_id=call_id,
                turn=call.turn,
                speaks_last=not reply.tool_calls,
                ends=ends,
                cost_usd=reply.cost_usd,
                inbox_id=call.inbox_id,
                target=target,
            ),
        )
        row = result.mappings().one_or_none()
        if row is None:
            return None
        workflow_id = conversation_workflow_id(call.conversation_id, row["execution"])
        return Passage.model_validate({**row, "workflow_id": workflow_id})

    async def add_reply(
        self,
        tx: Transaction,
        call: CompleteInput,
        call_id: int,
        reply: ModelReply,
        passage: Passage,
        *,
        agent_name: str,
        mentions: list[int],
    ) -> tuple[Message, date | None]:
        """Add the reply, settle its call, and answer the request with a snapshot.

        Returns with it the month whose spend has passed a threshold of the budget, if it has.
        """
        added = await tx.conn.execute(
            statements.ADD_REPLY,
            given(
                **_place(call),
                call_id=call_id,
                inbox_id=call.inbox_id,
                agent_id=call.agent_id,
                seq=passage.message_count,
                agent_name=agent_name,
                content=reply.text,
                mentions=mentions,
                tool_calls=[tool.model_dump() for tool in reply.tool_calls] or None,
                speaks_last=not reply.tool_calls,
                model=reply.model,
                tokens_in=reply.tokens_in,
                tokens_out=reply.tokens_out,
                cost_usd=reply.cost_usd,
                answer=passage.model_dump(mode="json", exclude={"waiting"}),
            ),
        )
        row = added.mappings().one()
        return Message.model_validate(row), row["passed_month"]

    async def used_tokens(self, tx: Transaction, conversation_id: int) -> int:
        """Return how many tokens a conversation's calls used, or may have used."""
        found = await tx.conn.execute(USED_TOKENS, given(conversation_id=conversation_id))
        return found.scalar_one()

    async def committed_reply(
        self, tx: Transaction, call: CompleteInput, target: str
    ) -> CommittedReply:
        """Return the reply an earlier attempt committed."""
        found = await tx.conn.execute(
            statements.COMMITTED_REPLY,
            given(**_place(call), inbox_id=call.inbox_id, target=target),
        )
        return CommittedReply.model_validate(found.mappings().one())

    async def usage(self, tx: Transaction, call: CompleteInput) -> TurnUsage:
        """Return what all steps of the turn used so far."""
        found = await tx.conn.execute(USAGE, given(**_place(call)))
        return TurnUsage.model_validate(found.mappings().one())

    async def close_call(
        self, tx: Transaction, call_id: int, *, error_code: str, was_billed: bool
    ) -> None:
        """Settle a call without a reply: at its worst case where it may have been billed."""
        await tx.conn.execute(
            statements.CLOSE_CALL,
            given(call_id=call_id, error_code=error_code, was_billed=was_billed),
        )


async def _opening(tx: Transaction, given: dict[str, object]) -> RowMapping | None:
    found = await tx.conn.execute(statements.OPENING, given)
    return found.mappings().one_or_none()


def _place(call: CompleteInput) -> dict[str, int]:
    """Return what a reply is unique by."""
    return {
        "conversation_id": call.conversation_id,
        "execution": call.execution,
        "turn": call.turn,
        "step": call.step,
    }

"""The statements of a turn, built once: building them for every call costs more than the queries.

Each takes its parameters by name. The order of a turn is in `turn_repository`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Date,
    Integer,
    Numeric,
    String,
    Text,
    and_,
    any_,
    case,
    delete,
    func,
    insert,
    literal,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, aggregate_order_by
from sqlalchemy.orm import aliased

from conclave.conversations.call_statements import (
    COUNTED_COLUMNS,
    IS_BUDGETED,
    MOST_TOKENS,
    counted,
    of_task,
)
from conclave.conversations.parameters import parameter
from conclave.mailbox import WAITING
from schema.domain.conversations import ConversationStatus, MessageRole
from schema.domain.inbox import InboxStatus
from schema.tables.agents import AgentRow
from schema.tables.circles import CircleRow
from schema.tables.conversations import ConversationRow, MessageRow
from schema.tables.inbox import InboxRow, OutboxRow
from schema.tables.model_calls import ModelCallRow
from schema.tables.tasks import TaskRow
from schema.tables.tools import ToolExecutionRow

TRANSCRIPT_MESSAGES = 10_000
"""A bound for the memory of one call: compaction begins long before any prompt is that long."""


MESSAGE_COLUMNS = (
    MessageRow.id,
    MessageRow.conversation_id,
    MessageRow.seq,
    MessageRow.role,
    MessageRow.agent_id,
    MessageRow.agent_name,
    MessageRow.content,
    MessageRow.mentions,
    MessageRow.turn,
    MessageRow.tokens_in,
    MessageRow.tokens_out,
    MessageRow.cost_usd,
    MessageRow.model,
    MessageRow.created_at,
)

_conversation_id = parameter("conversation_id", BigInteger)
_execution = parameter("execution", Integer)
_turn = parameter("turn", Integer)
_step = parameter("step", Integer)
_agent_id = parameter("agent_id", BigInteger)
_inbox_id = parameter("inbox_id", BigInteger)
_target = parameter("target", String)
_call_id = parameter("call_id", BigInteger)
_model = parameter("model", String)

_REPLY = and_(
    MessageRow.conversation_id == _conversation_id,
    MessageRow.execution == _execution,
    MessageRow.turn == _turn,
    MessageRow.step == _step,
    MessageRow.role == MessageRole.ASSISTANT,
)
_FAILED = select(
    func.coalesce(
        func.json_agg(
            aggregate_order_by(
                ModelCallRow.provider + literal("/") + ModelCallRow.model, ModelCallRow.id
            )
        ),
        func.json_build_array(),
    )
).where(
    ModelCallRow.conversation_id == _conversation_id,
    ModelCallRow.execution == _execution,
    ModelCallRow.turn == _turn,
    ModelCallRow.step == _step,
    (ModelCallRow.status == "failed") | (ModelCallRow.error_code == "provider_timeout"),
)
_EARLIER = select(literal(True)).where(
    InboxRow.target == _target, InboxRow.id < _inbox_id, InboxRow.status.in_(WAITING)
)
_SEEN = aliased(ConversationRow, name="seen")
_WAS_CHANGED = literal_column("conversations.xmin", BigInteger) != (
    select(literal_column("seen.xmin", BigInteger))
    .select_from(_SEEN)
    .where(_SEEN.id == _conversation_id)
    .scalar_subquery()
)
_PARTICIPANT = aliased(AgentRow)
_NAMES = select(func.json_object_agg(_PARTICIPANT.id, _PARTICIPANT.name)).where(
    _PARTICIPANT.id == any_(ConversationRow.agent_ids)
)
_WAITING = select(
    func.coalesce(
        func.json_agg(
            func.json_build_object(
                literal("id"),
                InboxRow.id,
                literal("kind"),
                InboxRow.kind,
                literal("agent_id"),
                InboxRow.agent_id,
                literal("mentions"),
                InboxRow.mentions,
                literal("prompted"),
                InboxRow.prompt.is_not(None),
            )
        ),
        func.json_build_array(),
    )
).where(
    InboxRow.target == _target,
    InboxRow.status.in_(WAITING),
    InboxRow.id.is_distinct_from(_inbox_id),
)

OPENING = (
    select(
        ConversationRow.status,
        ConversationRow.final,
        ConversationRow.execution,
        ConversationRow.turn_count,
        ConversationRow.last_seq,
        ConversationRow.fence,
        ConversationRow.circle_id,
        ConversationRow.kind,
        ConversationRow.owner,
        ConversationRow.topic,
        ConversationRow.max_turns,
        ConversationRow.agent_ids,
        ConversationRow.project_id,
        ConversationRow.permissions,
        ConversationRow.profile,
        ConversationRow.compacted_seq,
        TaskRow.id.label("task_id"),
        TaskRow.required_tools,
        CircleRow.config.label("circle_config"),
        AgentRow.id.label("agent_id"),
        AgentRow.name.label("agent_name"),
        AgentRow.role.label("agent_role"),
        AgentRow.state.label("agent_state"),
        AgentRow.provider,
        AgentRow.model,
        AgentRow.personality,
        AgentRow.background,
        AgentRow.config,
        AgentRow.system_prompt,
        AgentRow.risk_rules,
        AgentRow.fallback_models,
        InboxRow.status.label("inbox_status"),
        InboxRow.turn.label("inbox_turn"),
        _NAMES.scalar_subquery().label("names"),
        _EARLIER.exists().label("behind"),
        select(MessageRow.id).where(_REPLY).exists().label("is_replied"),
        _FAILED.scalar_subquery().label("failed"),
        _WAS_CHANGED.label("was_changed"),
    )
    .select_from(ConversationRow)
    .outerjoin(AgentRow, and_(AgentRow.id == _agent_id, AgentRow.deleted_at.is_(None)))
    .outerjoin(InboxRow, InboxRow.id == _inbox_id)
    .outerjoin(CircleRow, CircleRow.id == ConversationRow.circle_id)
    .outerjoin(TaskRow, TaskRow.conversation_id == ConversationRow.id)
    .where(ConversationRow.id == _conversation_id)
    .with_for_update(of=ConversationRow)
)
"""Lock the conversation and read all that decides whether and how to call.

Where `was_changed`, it was changed while this waited for the lock: the row is as it is now, and
all the rest as it was before. Read again then: the lock is held.
"""

_OWED = delete(OutboxRow).where(OutboxRow.inbox_id == _inbox_id).cte("owed")
_CLAIMED = (
    update(InboxRow)
    .where(
        InboxRow.id == _inbox_id,
        InboxRow.target == _target,
        InboxRow.status == InboxStatus.PENDING,
    )
    .values(status=InboxStatus.CLAIMED, turn=_turn)
    .returning(InboxRow.prompt, InboxRow.mentions)
    .cte("claimed")
)
CLAIM = (
    insert(MessageRow)
    .from_select(
        [
            "conversation_id", "seq", "role", "content", "mentions",
            "execution", "turn", "step", "inbox_id",
        ],
        select(
            _conversation_id,
            parameter("seq", Integer),
            literal(MessageRole.USER.value),
            _CLAIMED.c.prompt,
            _CLAIMED.c.mentions,
            _execution,
            _turn,
            literal(0),
            _inbox_id,
        ).where(_CLAIMED.c.prompt.is_not(None)),
    )
    .returning(*MESSAGE_COLUMNS)
    .add_cte(_OWED)
)  # fmt: skip
"""Take a pending request in hand: nothing is owed any more, and its prompt joins the transcript."""

_RESULTS = select(
    func.json_agg(
        aggregate_order_by(
            func.json_build_object(
                literal("id"),
                ToolExecutionRow.tool_use_id,
                literal("content"),
                ToolExecutionRow.result,
            ),
            ToolExecutionRow.position,
        )
    )
).where(
    ToolExecutionRow.conversation_id == MessageRow.conversation_id,
    ToolExecutionRow.execution == MessageRow.execution,
    ToolExecutionRow.turn == MessageRow.turn,
    ToolExecutionRow.step == MessageRow.step,
    ToolExecutionRow.result.is_not(None),
)
TRANSCRIPT = (
    select(
        MessageRow.seq,
        MessageRow.turn,
        MessageRow.role,
        MessageRow.agent_id,
        MessageRow.agent_name,
        MessageRow.content,
        MessageRow.tool_calls,
        case((MessageRow.tool_calls.is_not(None), _RESULTS.scalar_subquery()), else_=null()).label(
            "results"
        ),
    )
    .where(
        MessageRow.conversation_id == _conversation_id,
        MessageRow.seq > parameter("after_seq", Integer),
    )
    .order_by(MessageRow.seq.desc())
    .limit(TRANSCRIPT_MESSAGES)
)

_STORED_CALL = (
    insert(ModelCallRow)
    .values(
        conversation_id=_conversation_id,
        execution=_execution,
        turn=_turn,
        step=_step,
        attempt=parameter("attempt", Integer),
        agent_id=_agent_id,
        provider=parameter("provider", String),
        model=_model,
        fallback_for=parameter("fallback_for", String),
        status=literal("reserved"),
        reserved_usd=parameter("worst_case", Numeric(18, 9)),
        reserved_tokens=parameter("reserved_tokens", Integer),
        day=parameter("day", Date),
        is_budgeted=IS_BUDGETED,
        is_unpriced=parameter("is_unpriced", Boolean),
    )
    .returning(ModelCallRow.id, ModelCallRow.is_budgeted)
    .cte("stored")
)
RESERVE = (
    update(ConversationRow)
    .where(ConversationRow.id == _conversation_id)
    .values(
        fence=select(_STORED_CALL.c.id).scalar_subquery(),
        speaking_agent_id=_agent_id,
        last_seq=ConversationRow.last_seq + parameter("prompts", Integer),
        status=case(
            (
                ConversationRow.status.in_(
                    (ConversationStatus.COMPLETED, ConversationStatus.PAUSED)
                ),
                ConversationRow.status,
            ),
            else_=literal(ConversationStatus.ACTIVE.value),
        ),
        reason=None,
        started=True,
        context_tokens=parameter("context_tokens", Integer),
        context_window=parameter("context_window", Integer),
        context_model=_model,
        updated_at=func.clock_timestamp(),
    )
    .returning(
        ConversationRow.fence.label("call_id"),
        select(_STORED_CALL.c.is_budgeted).scalar_subquery().label("is_budgeted"),
        ConversationRow.cost_usd.label("spent_usd"),
        of_task(TaskRow.id).label("task_id"),
        of_task(TaskRow.budget_usd).label("budget_usd"),
        MOST_TOKENS.label("max_tokens"),
    )
)
"""Store the call before it is sent and take the fence; say what may limit it."""

_ends = parameter("ends", Boolean)
_speaks_last = parameter("speaks_last", Boolean)
PASS_FENCE = (
    update(ConversationRow)
    .where(
        ConversationRow.id == _conversation_id,
        ConversationRow.fence == _call_id,
        ConversationRow.final.is_(False),
    )
    .values(
        fence=None,
        speaking_agent_id=case((_speaks_last, null()), else_=ConversationRow.speaking_agent_id),
        last_seq=ConversationRow.last_seq + 1,
        turn_count=case((_speaks_last, _turn), else_=ConversationRow.turn_count),
        cost_usd=ConversationRow.cost_usd + parameter("cost_usd", Numeric(18, 9)),
        status=case(
            (
                (ConversationRow.status == ConversationStatus.COMPLETED) | _ends,
                literal(ConversationStatus.COMPLETED.value),
            ),
            else_=ConversationRow.status,
        ),
        ended_at=case((_ends, func.clock_timestamp()), else_=ConversationRow.ended_at),
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
        _WAITING.scalar_subquery().label("waiting"),
    )
)
"""Move the conversation on, if the fence is still this call's."""

_SETTLED_CALL = (
    update(ModelCallRow)
    .where(ModelCallRow.id == _call_id)
    .values(
        status=literal("committed"),
        model=parameter("model", String),
        cost_usd=parameter("cost_usd", Numeric(18, 9)),
        tokens_in=parameter("tokens_in", Integer),
        tokens_out=parameter("tokens_out", Integer),
        ended_at=func.clock_timestamp(),
    )
    .returning(*COUNTED_COLUMNS)
    .cte("settled_call")
)
_COUNTED_MONTH, _COUNTED_DAY = counted(_SETTLED_CALL)
SETTLE_CALL = select(_COUNTED_MONTH.c.passed_month).add_cte(_SETTLED_CALL, _COUNTED_DAY)
"""Settle a call at its cost, without a reply to the conversation."""
_ANSWERED = (
    update(InboxRow)
    .where(InboxRow.id == _inbox_id, _speaks_last)
    .values(
        status=literal(InboxStatus.DONE.value),
        answer=parameter("answer", JSONB),
        done_at=func.clock_timestamp(),
    )
    .cte("answered")
)
_USED_BY_TASK = (
    update(TaskRow)
    .where(TaskRow.conversation_id == _conversation_id)
    .values(
        cost_tokens=TaskRow.cost_tokens
        + parameter("tokens_in", Integer)
        + parameter("tokens_out", Integer)
    )
    .cte("used_by_task")
)
ADD_REPLY = (
    insert(MessageRow)
    .values(
        conversation_id=_conversation_id,
        seq=parameter("seq", Integer),
        role=literal(MessageRole.ASSISTANT.value),
        agent_id=_agent_id,
        agent_name=parameter("agent_name", String),
        content=parameter("content", Text),
        mentions=parameter("mentions", ARRAY(BigInteger)),
        tool_calls=parameter("tool_calls", JSONB(none_as_null=True)),
        execution=_execution,
        turn=_turn,
        step=_step,
        inbox_id=_inbox_id,
        model=parameter("model", String),
        tokens_in=parameter("tokens_in", Integer),
        tokens_out=parameter("tokens_out", Integer),
        cost_usd=parameter("cost_usd", Numeric(18, 9)),
    )
    .returning(
        *MESSAGE_COLUMNS,
        select(_COUNTED_MONTH.c.passed_month).scalar_subquery().label("passed_month"),
    )
    .add_cte(_SETTLED_CALL, _COUNTED_MONTH, _COUNTED_DAY, _ANSWERED, _USED_BY_TASK)
)
"""Add the reply, settle its call at its cost and answer the request."""

COMMITTED_REPLY = (
    select(
        *MESSAGE_COLUMNS,
        MessageRow.tool_calls,
        ConversationRow.status,
        _WAITING.scalar_subquery().label("waiting"),
        _NAMES.scalar_subquery().label("names"),
    )
    .join(ConversationRow, ConversationRow.id == MessageRow.conversation_id)
    .where(_REPLY)
)

_was_billed = parameter("was_billed", Boolean)
_CLOSED_CALL = (
    update(ModelCallRow)
    .where(ModelCallRow.id == _call_id, ModelCallRow.status == "reserved")
    .values(
        status=case((_was_billed, literal("unknown")), else_=literal("failed")),
        error_code=parameter("error_code", String),
        cost_usd=case((_was_billed, ModelCallRow.reserved_usd), else_=literal(0)),
        ended_at=func.clock_timestamp(),
    )
    .returning(*COUNTED_COLUMNS, ModelCallRow.conversation_id)
    .cte("closed_call")
)
CLOSE_CALL = (
    update(ConversationRow)
    .where(ConversationRow.id == _CLOSED_CALL.c.conversation_id)
    .values(
        cost_usd=ConversationRow.cost_usd + _CLOSED_CALL.c.cost_usd,
        fence=func.nullif(ConversationRow.fence, _call_id),
    )
    .add_cte(_CLOSED_CALL, *counted(_CLOSED_CALL))
)
"""Settle a call without a reply, and give its fence back."""

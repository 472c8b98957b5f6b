"""The statements of a call that runs, built once: building them cost more than their queries."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Integer,
    Interval,
    String,
    Text,
    bindparam,
    func,
    literal,
    or_,
    select,
    update,
)

from schema.domain.tools import ExecutionStatus
from schema.tables.agents import AgentRow
from schema.tables.circles import CircleRow
from schema.tables.conversations import ConversationRow
from schema.tables.tools import ToolExecutionRow, ToolGrantRow

OPEN = (ExecutionStatus.WAITING, ExecutionStatus.READY, ExecutionStatus.RUNNING)
COLUMNS = (
    ToolExecutionRow.id,
    ToolExecutionRow.conversation_id,
    ToolExecutionRow.execution,
    ToolExecutionRow.turn,
    ToolExecutionRow.step,
    ToolExecutionRow.position,
    ToolExecutionRow.tool_use_id,
    ToolExecutionRow.tool_name,
    ToolExecutionRow.arguments,
    ToolExecutionRow.effect,
    ToolExecutionRow.verdict,
    ToolExecutionRow.rule,
    ToolExecutionRow.binding,
    ToolExecutionRow.status,
    ToolExecutionRow.approval_id,
    ToolExecutionRow.agent_id,
    ToolExecutionRow.attempt,
    ToolExecutionRow.result,
    ToolExecutionRow.is_error,
    ToolExecutionRow.created_at,
    ToolExecutionRow.started_at,
    ToolExecutionRow.ended_at,
)

_line = ToolExecutionRow.id == bindparam("id_", type_=BigInteger)
_answer = {
    "status": bindparam("status_", type_=String),
    "result": bindparam("result_", type_=Text),
    "is_error": bindparam("is_error_", type_=Boolean),
    "ended_at": func.clock_timestamp(),
}

OPENED = (
    select(
        *COLUMNS,
        ConversationRow.kind,
        ConversationRow.owner,
        ConversationRow.circle_id,
        ConversationRow.project_id,
        ConversationRow.permissions,
        ConversationRow.final,
        ConversationRow.execution.label("present_execution"),
        CircleRow.config.label("circle_config"),
        AgentRow.name.label("agent_name"),
        AgentRow.config.label("agent_config"),
        select(literal(True))
        .where(
            ToolGrantRow.conversation_id == ToolExecutionRow.conversation_id,
            ToolGrantRow.tool_name == ToolExecutionRow.tool_name,
        )
        .exists()
        .label("is_granted"),
    )
    .select_from(ToolExecutionRow)
    .join(ConversationRow, ConversationRow.id == ToolExecutionRow.conversation_id)
    .outerjoin(CircleRow, CircleRow.id == ConversationRow.circle_id)
    .outerjoin(AgentRow, AgentRow.id == ToolExecutionRow.agent_id)
    .where(_line)
)
"""A line with all that decides whether it may run."""

OPENED_AND_LOCKED = OPENED.with_for_update(of=ToolExecutionRow)

STARTED = (
    update(ToolExecutionRow)
    .where(_line)
    .values(
        status=ExecutionStatus.RUNNING,
        attempt=ToolExecutionRow.attempt + 1,
        started_at=func.coalesce(ToolExecutionRow.started_at, func.clock_timestamp()),
    )
    .returning(ToolExecutionRow.attempt)
)
"""Another attempt runs."""

CLOSED = (
    update(ToolExecutionRow)
    .where(
        _line,
        ToolExecutionRow.status.in_(OPEN),
        or_(
            bindparam("attempt_", type_=Integer).is_(None),
            ToolExecutionRow.attempt == bindparam("attempt_", type_=Integer),
        ),
    )
    .values(**_answer)
    .returning(*COLUMNS)
)
"""A line that is not over ends, if it is still the given attempt's."""

NOTED = (
    update(ToolExecutionRow)
    .where(_line, ToolExecutionRow.status == ExecutionStatus.READY)
    .values(
        **_answer,
        attempt=ToolExecutionRow.attempt + 1,
        started_at=func.clock_timestamp() - bindparam("took_", type_=Interval),
    )
    .returning(*COLUMNS)
)
"""A line ends that was not noted as running."""

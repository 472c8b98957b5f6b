"""The statements of a call that runs, built once: building them cost more than their queries."""

from __future__ import annotations

from sqlalchemy import BigInteger, bindparam, literal, select

from conclave.events import telling
from schema.domain.tools import ExecutionStatus
from schema.tables.agents import AgentRow
from schema.tables.circles import CircleRow
from schema.tables.conversations import ConversationRow
from schema.tables.tasks import TaskRow
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
        TaskRow.id.label("task_id"),
        TaskRow.required_tools,
        CircleRow.config.label("circle_config"),
        AgentRow.name.label("agent_name"),
        AgentRow.config.label("agent_config"),
        AgentRow.risk_rules,
        AgentRow.state.label("agent_state"),
        AgentRow.deleted_at.label("agent_deleted_at"),
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
    .outerjoin(TaskRow, TaskRow.conversation_id == ConversationRow.id)
    .where(_line)
)
"""A line with all that decides whether it may run."""

OPENED_AND_LOCKED = OPENED.with_for_update(of=ToolExecutionRow)

_OPEN_SQL = ", ".join(f"'{status}'" for status in OPEN)

STARTED = telling(
    f"""
    UPDATE tool_executions
    SET status = '{ExecutionStatus.RUNNING}', attempt = attempt + 1,
        started_at = coalesce(started_at, clock_timestamp())
    WHERE id = :id AND attempt = :attempt
        AND status IN ('{ExecutionStatus.READY}', '{ExecutionStatus.RUNNING}')
    RETURNING attempt
    """
)
"""Another attempt runs, unless one that was not looked at does."""

CLOSED = telling(
    f"""
    UPDATE tool_executions
    SET status = :status, result = :result, is_error = :is_error, ended_at = clock_timestamp()
    WHERE id = :id AND attempt = :attempt AND status IN ({_OPEN_SQL})
    RETURNING id
    """
)
"""A line that is not over ends, if it is still the given attempt's."""

NOTED = telling(
    f"""
    UPDATE tool_executions
    SET status = :status, result = :result, is_error = :is_error, attempt = attempt + 1,
        started_at = clock_timestamp() - make_interval(secs => :seconds),
        ended_at = clock_timestamp()
    WHERE id = :id AND status = '{ExecutionStatus.READY}'
    RETURNING id
    """
)
"""A line ends that was not noted as running."""

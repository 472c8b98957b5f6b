"""All SQL on the tool ledger, on grants and on the rules for tools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from conclave.db import Transaction
from conclave.tools.ledger_statements import COLUMNS, OPEN
from schema.domain.base import Shape
from schema.domain.permissions import Permissions
from schema.domain.tools import (
    Effect,
    ExecutionStatus,
    StepPlace,
    ToolExecution,
    ToolVerdict,
)
from schema.tables.settings import SettingRow
from schema.tables.tools import ApprovalRow, ToolExecutionRow, ToolGrantRow

_PERMISSIONS_KEY = "permissions.chat"

_INSERT = text(
    """
    INSERT INTO tool_executions (conversation_id, execution, turn, step, position, tool_use_id,
        tool_name, arguments, effect, verdict, rule, binding, status, agent_id, result, is_error,
        ended_at)
    SELECT :conversation_id, :execution, :turn, :step, position, tool_use_id, tool_name, arguments,
        effect, verdict, rule, binding, status, :agent_id, result, is_error,
        CASE WHEN status IN ('failed', 'denied') THEN clock_timestamp() END
    FROM jsonb_to_recordset(CAST(:calls AS jsonb)) AS call(
        position int, tool_use_id text, tool_name text, arguments jsonb, effect text,
        verdict text, rule text, binding text, status text, result text, is_error boolean)
    RETURNING *
    """
)

# One round trip for both: a row even where nothing is granted.
_CHAT = text(
    """
    SELECT project_id,
        (SELECT id FROM tasks WHERE conversation_id = :id) AS task_id,
        ARRAY(SELECT tool_name FROM tool_grants WHERE conversation_id = :id) AS granted
    FROM conversations WHERE id = :id
    """
)


class JudgedCall(Shape):
    """A call about to be stored."""

    position: int
    tool_use_id: str
    tool_name: str
    arguments: dict[str, JsonValue]
    effect: Effect
    verdict: ToolVerdict
    rule: str
    binding: str
    status: ExecutionStatus
    result: str | None = None
    is_error: bool = False


class Surroundings(Shape):
    """What a conversation's calls have in common."""

    project_id: int | None
    task_id: int | None
    granted: frozenset[str]
    """The tools that are allowed for the rest of it."""


class ToolRepository:
    """Reads and writes the ledger."""

    async def insert(
        self, tx: Transaction, place: StepPlace, agent_id: int, calls: Sequence[JudgedCall]
    ) -> list[ToolExecution]:
        """Store the calls of a reply; return them in their order."""
        rows = await tx.conn.execute(
            _INSERT,
            {
                **place.model_dump(),
                "agent_id": agent_id,
                "calls": json.dumps([call.model_dump(mode="json") for call in calls]),
            },
        )
        lines = [ToolExecution.model_validate(row) for row in rows.mappings()]
        return sorted(lines, key=lambda line: line.position)

    async def of_step(self, tx: Transaction, place: StepPlace) -> list[ToolExecution]:
        """Return the calls of a step, in their order."""
        rows = await tx.conn.execute(
            select(*COLUMNS)
            .where(
                ToolExecutionRow.conversation_id == place.conversation_id,
                ToolExecutionRow.execution == place.execution,
                ToolExecutionRow.turn == place.turn,
                ToolExecutionRow.step == place.step,
            )
            .order_by(ToolExecutionRow.position)
        )
        return [ToolExecution.model_validate(row) for row in rows.mappings()]

    async def open_of(self, tx: Transaction, conversation_id: int) -> list[ToolExecution]:
        """Lock and return the conversation's calls that are not over."""
        rows = await tx.conn.execute(
            select(*COLUMNS)
            .where(
                ToolExecutionRow.conversation_id == conversation_id,
                ToolExecutionRow.status.in_(OPEN),
            )
            .order_by(ToolExecutionRow.id)
            .with_for_update()
        )
        return [ToolExecution.model_validate(row) for row in rows.mappings()]

    async def cancel(self, tx: Transaction, execution_id: int, reason: str) -> None:
        """End a line that the caller has locked."""
        await tx.conn.execute(
            update(ToolExecutionRow)
            .where(ToolExecutionRow.id == execution_id)
            .values(
                status=ExecutionStatus.CANCELLED,
                result=reason,
                is_error=True,
                ended_at=func.clock_timestamp(),
            )
        )

    async def approve(
        self, tx: Transaction, execution_id: int, arguments: Mapping[str, JsonValue], binding: str
    ) -> None:
        """Make a waiting line ready, with the arguments that were approved."""
        await tx.conn.execute(
            update(ToolExecutionRow)
            .where(
                ToolExecutionRow.id == execution_id,
                ToolExecutionRow.status == ExecutionStatus.WAITING,
            )
            .values(status=ExecutionStatus.READY, arguments=dict(arguments), binding=binding)
        )

    async def set_approval(self, tx: Transaction, execution_id: int, approval_id: int) -> None:
        """Note which approval a line waits for."""
        await tx.conn.execute(
            update(ToolExecutionRow)
            .where(ToolExecutionRow.id == execution_id)
            .values(approval_id=approval_id)
        )

    async def expiries(self, tx: Transaction, approval_ids: Sequence[int]) -> dict[int, datetime]:
        """Return when each of the approvals expires."""
        rows = await tx.conn.execute(
            select(ApprovalRow.id, ApprovalRow.expires_at).where(ApprovalRow.id.in_(approval_ids))
        )
        return {row.id: row.expires_at for row in rows}

    async def grant(
        self, tx: Transaction, conversation_id: int, tool_name: str, granted_by: str
    ) -> None:
        """Allow a tool for the rest of a chat."""
        await tx.conn.execute(
            insert(ToolGrantRow)
            .values(conversation_id=conversation_id, tool_name=tool_name, granted_by=granted_by)
            .on_conflict_do_nothing()
        )

    async def surroundings(self, tx: Transaction, conversation_id: int) -> Surroundings:
        """Return what a conversation's calls are judged and run with."""
        row = (await tx.conn.execute(_CHAT, {"id": conversation_id})).one()
        return Surroundings(
            project_id=row.project_id, task_id=row.task_id, granted=frozenset(row.granted)
        )

    async def permissions(self, tx: Transaction, *, lock: bool = False) -> Permissions:
        """Return the global rules, the defaults where none are stored."""
        statement = select(SettingRow.value).where(SettingRow.key == _PERMISSIONS_KEY)
        if lock:
            statement = statement.with_for_update()
        found = await tx.conn.scalar(statement)
        return Permissions() if found is None else Permissions.model_validate(found)

    async def store_permissions(self, tx: Transaction, permissions: Permissions) -> None:
        """Store the global rules."""
        value = permissions.model_dump(mode="json")
        await tx.conn.execute(
            insert(SettingRow)
            .values(key=_PERMISSIONS_KEY, value=value)
            .on_conflict_do_update(
                index_elements=[SettingRow.key],
                set_={"value": value, "updated_at": func.clock_timestamp()},
            )
        )

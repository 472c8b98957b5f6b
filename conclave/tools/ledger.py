"""The lines of the ledger whose calls run: each change is one statement with its events.

An attempt's number fences: who read a line before another attempt began changes nothing.
"""

from __future__ import annotations

from sqlalchemy.engine import RowMapping

from conclave.db import Transaction
from conclave.events import EventLog
from conclave.tools.ledger_statements import CLOSED, NOTED, OPENED, OPENED_AND_LOCKED, STARTED
from conclave.tools.telling import denied_event, result_event, started_event
from schema.domain.agents import AgentConfig, AgentStatus, RiskRules
from schema.domain.base import Shape
from schema.domain.tools import ExecutionStatus, ToolAsker, ToolExecution, ToolOutcome


class OpenedExecution(Shape):
    """A line of the ledger with all that decides whether it may run."""

    execution: ToolExecution
    asker: ToolAsker
    project_id: int | None
    task_id: int | None = None
    is_granted: bool
    is_over: bool
    """The conversation was ended, a later run owns it, or its agent was stopped or deleted."""

    def ended(self, status: ExecutionStatus, outcome: ToolOutcome) -> ToolExecution:
        """Return the line as it is once it has ended so."""
        update = {"status": status, "result": outcome.content, "is_error": outcome.is_error}
        return self.execution.model_copy(update=update)


class ToolLedger:
    """Reads and changes lines whose calls run."""

    def __init__(self, events: EventLog) -> None:
        self._events = events

    async def opened(
        self, tx: Transaction, execution_id: int, *, lock: bool = False
    ) -> OpenedExecution | None:
        """Read a line, locking it where asked to."""
        statement = OPENED_AND_LOCKED if lock else OPENED
        found = await tx.conn.execute(statement, {"id_": execution_id})
        row = found.mappings().one_or_none()
        return None if row is None else _opened(row)

    async def start(self, tx: Transaction, opened: OpenedExecution) -> int | None:
        """Note that another attempt runs; return its number, None where the line has changed."""
        line = opened.execution
        told = [started_event(opened.asker, line)] if line.attempt == 0 else []
        values = {"id": line.id, "attempt": line.attempt}
        started = await self._events.change(tx, STARTED, values, told)
        return None if started is None else int(started["attempt"])

    async def note(
        self, tx: Transaction, opened: OpenedExecution, outcome: ToolOutcome, seconds: float
    ) -> ExecutionStatus | None:
        """Note a call that ran without a note; None where it is not ready any more."""
        status = _status_of(outcome)
        line = opened.ended(status, outcome)
        told = [started_event(opened.asker, line), result_event(opened.asker, line)]
        values = {**_answer(line), "seconds": seconds}
        noted = await self._events.change(tx, NOTED, values, told)
        return None if noted is None else status

    async def close(
        self, tx: Transaction, opened: OpenedExecution, outcome: ToolOutcome, attempt: int
    ) -> ExecutionStatus | None:
        """End a call with what it answered; None where it is over, or another attempt runs."""
        return await self._end(tx, opened, _status_of(outcome), outcome, attempt)

    async def refuse(
        self, tx: Transaction, opened: OpenedExecution, status: ExecutionStatus, reason: str
    ) -> ExecutionStatus | None:
        """End a call that does not run, or is cut, with the reason; None as `close`."""
        outcome = ToolOutcome(content=reason, is_error=True)
        return await self._end(tx, opened, status, outcome, opened.execution.attempt)

    async def _end(
        self,
        tx: Transaction,
        opened: OpenedExecution,
        status: ExecutionStatus,
        outcome: ToolOutcome,
        attempt: int,
    ) -> ExecutionStatus | None:
        line = opened.ended(status, outcome)
        told = (
            denied_event(opened.asker, [line], outcome.content)
            if status is ExecutionStatus.DENIED
            else result_event(opened.asker, line)
        )
        values = {**_answer(line), "attempt": attempt}
        closed = await self._events.change(tx, CLOSED, values, [told])
        return None if closed is None else status


def _status_of(outcome: ToolOutcome) -> ExecutionStatus:
    return ExecutionStatus.FAILED if outcome.is_error else ExecutionStatus.DONE


def _answer(line: ToolExecution) -> dict[str, object]:
    return {
        "id": line.id,
        "status": line.status.value,
        "result": line.result,
        "is_error": line.is_error,
    }


def _opened(row: RowMapping) -> OpenedExecution:
    execution = ToolExecution.model_validate(row)
    return OpenedExecution(
        execution=execution,
        asker=ToolAsker.of(
            conversation_id=execution.conversation_id,
            kind=row["kind"],
            owner=row["owner"],
            circle_id=row["circle_id"],
            circle_config=row["circle_config"],
            agent_id=execution.agent_id or 0,
            agent_name=row["agent_name"] or "",
            config=AgentConfig.model_validate(row["agent_config"] or {}),
            risk_rules=RiskRules.model_validate(row["risk_rules"] or {}),
            tightened=row["permissions"],
            task_id=row["task_id"],
            required_tools=row["required_tools"],
        ),
        project_id=row["project_id"],
        task_id=row["task_id"],
        is_granted=row["is_granted"],
        is_over=row["final"]
        or row["present_execution"] != execution.execution
        or row["agent_state"] == AgentStatus.OFFLINE
        or row["agent_deleted_at"] is not None,
    )

"""Running a call of the ledger: begin, run, commit, each step safe when a process dies.

`read` and `idempotent` calls run again after a crash. A `once` call that had been started never
does: its outcome is unknown, and the agent is told so. An attempt that is not the last one
commits nothing. A glance at files is begun without a note: there is nothing to know of one that
was cut.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

from pydantic import JsonValue

from conclave.db import Database, Transaction
from conclave.errors import ConclaveError, Invalid
from conclave.events import EventLog
from conclave.ports.tools import Toolbox
from conclave.tools import policy
from conclave.tools.arguments import BadArguments, check
from conclave.tools.errors import ExecutionNotFound, LateToolAttempt
from conclave.tools.permissions import PermissionService
from conclave.tools.repository import OpenedExecution, ToolRepository
from conclave.tools.telling import denied_event, result_event, started_event
from schema.domain.approvals import Approval, ApprovalStatus
from schema.domain.base import Shape
from schema.domain.tools import (
    FINAL,
    Effect,
    ExecutionStatus,
    Tool,
    ToolAsker,
    ToolExecution,
    ToolOutcome,
    ToolPlace,
    ToolVerdict,
)
from schema.payloads.tools import ExecuteInput, ExecuteResult

MOST_CHARACTERS = 60_000
"""Of a result, as it is stored and sent to the model."""
TRIES = 5
_UNKNOWN = (
    "The outcome of this call is unknown: the worker died while it ran. It was not repeated. "
    "Check whether it took effect before you call it again."
)
_LATE = "Another attempt runs this call, or its turn is over."
_CUT = "\n[cut: {more} characters more. Ask for a part of it.]"


class _Started(Shape):
    """A call that may run now."""

    tool: Tool
    asker: ToolAsker
    line: ToolExecution
    attempt: int
    """0: not noted."""
    place: ToolPlace


class ToolService:
    """Runs calls, and hears what became of the approvals they wait for."""

    def __init__(
        self, db: Database, events: EventLog, toolbox: Toolbox, permissions: PermissionService
    ) -> None:
        self._db = db
        self._events = events
        self._toolbox = toolbox
        self._permissions = permissions
        self._ledger = ToolRepository()

    async def execute(
        self, asked: ExecuteInput, *, cancel_is_asked: Callable[[], bool] = lambda: True
    ) -> ExecuteResult:
        """Run a line of the ledger, or say how it ended before.

        A cancel that nobody asked for (a worker that stops, or whose heartbeat came too late)
        ends this attempt alone: the next one runs the call again, or says that its outcome is
        unknown. `cancel_is_asked` tells the two apart once the cancel is there.

        Raises `ExecutionNotFound`, `LateToolAttempt`, and what is retryable of the tool itself.
        """
        if asked.is_quick:
            glanced = await self._glance(asked)
            if glanced is not None:
                return glanced
        async with self._db.transaction() as tx:
            started = await self._begin(tx, asked.execution_id)
        if isinstance(started, ExecuteResult):
            return started
        try:
            async with asyncio.timeout(asked.timeout):
                outcome = await self._run(started)
        except TimeoutError:
            message = f"The tool did not end within {asked.timeout} s."
            outcome = ToolOutcome(content=message, is_error=True)
        except ConclaveError as error:
            again = error.retryable and started.tool.effect is not Effect.ONCE
            if again and started.attempt < TRIES:
                raise
            outcome = ToolOutcome(content=error.message, is_error=True)
        except asyncio.CancelledError:
            if cancel_is_asked():
                await asyncio.shield(self._cancelled(asked.execution_id, started))
            raise
        return await self._commit(asked.execution_id, started, outcome)

    async def _glance(self, asked: ExecuteInput) -> ExecuteResult | None:
        """Run a call that only looks at files, and note it when it is over.

        None where the ledger has to be asked step by step: what is no glance, what may not run
        any more, and what did not go well, which is run again.
        """
        async with self._db.autocommit() as tx:
            opened = await self._ledger.opened(tx, asked.execution_id, lock=False)
        if opened is None or opened.is_over or opened.execution.status is not ExecutionStatus.READY:
            return None
        tool = self._toolbox.get(opened.execution.tool_name)
        if tool is None or not tool.is_glance or await self._objection(tool, opened) is not None:
            return None
        started = _started(tool, opened, attempt=0)
        begun = time.monotonic()
        try:
            async with asyncio.timeout(asked.timeout):
                outcome = await self._run(started)
        except (TimeoutError, ConclaveError):
            return None
        status = _status_of(outcome)
        async with self._db.transaction() as tx:
            noted = await self._ledger.note(
                tx,
                asked.execution_id,
                status,
                _capped(outcome.content),
                is_error=outcome.is_error,
                took=timedelta(seconds=time.monotonic() - begun),
            )
            if noted is None:
                raise LateToolAttempt(_LATE)
            told = [started_event(started.asker, noted), result_event(started.asker, noted)]
            await self._events.append(tx, told)
        return ExecuteResult(status=status)

    async def _run(self, started: _Started) -> ToolOutcome:
        return await self._toolbox.run(started.tool, started.line.arguments, started.place)

    async def _begin(self, tx: Transaction, execution_id: int) -> _Started | ExecuteResult:
        opened = await self._ledger.opened(tx, execution_id)
        if opened is None:
            raise ExecutionNotFound(execution_id)
        line = opened.execution
        if line.status in FINAL:
            return ExecuteResult(status=line.status)
        if opened.is_over:
            return await self._close(tx, opened, ExecutionStatus.CANCELLED, "The turn is over.")
        if line.status is ExecutionStatus.RUNNING and line.effect is Effect.ONCE:
            return await self._close(tx, opened, ExecutionStatus.UNKNOWN, _UNKNOWN)
        tool = self._toolbox.get(line.tool_name)
        objection = "The tool is gone." if tool is None else await self._objection(tool, opened)
        if tool is None or objection is not None:
            return await self._close(tx, opened, ExecutionStatus.DENIED, objection or "")
        attempt = await self._ledger.start(tx, execution_id)
        if attempt == 1:
            await self._events.append(tx, [started_event(opened.asker, line)])
        return _started(tool, opened, attempt)

    async def _objection(self, tool: Tool, opened: OpenedExecution) -> str | None:
        """Say why a call that was allowed may not run after all: what was judged has changed."""
        line = opened.execution
        permissions = await self._permissions.current()
        version = policy.policy_version(opened.asker, permissions)
        if policy.binding(tool, line.arguments, version) == line.binding:
            return None
        if line.approval_id is not None:
            return "The approval is void: the tool or the rules have changed since. Ask again."
        again = policy.judge(tool, opened.asker, permissions, granted=opened.is_granted)
        if again.verdict is ToolVerdict.ALLOW:
            return None
        return f"Denied: the rules have changed since ({again.rule})."

    async def _close(
        self, tx: Transaction, opened: OpenedExecution, status: ExecutionStatus, reason: str
    ) -> ExecuteResult:
        closed = await self._ledger.close(tx, opened.execution.id, status, reason, is_error=True)
        if closed is not None:
            denied = status is ExecutionStatus.DENIED
            event = (
                denied_event(opened.asker, [closed], reason)
                if denied
                else result_event(opened.asker, closed)
            )
            await self._events.append(tx, [event])
        return ExecuteResult(status=status)

    async def _commit(
        self, execution_id: int, started: _Started, outcome: ToolOutcome
    ) -> ExecuteResult:
        status = _status_of(outcome)
        async with self._db.transaction() as tx:
            closed = await self._ledger.close(
                tx,
                execution_id,
                status,
                _capped(outcome.content),
                is_error=outcome.is_error,
                attempt=started.attempt,
            )
            if closed is None:
                raise LateToolAttempt(_LATE)
            await self._events.append(tx, [result_event(started.asker, closed)])
        return ExecuteResult(status=status)

    async def _cancelled(self, execution_id: int, started: _Started) -> None:
        """Note that a call was cut on purpose; a `once` call may have had its effect."""
        async with self._db.transaction() as tx:
            opened = await self._ledger.opened(tx, execution_id)
            if opened is None or opened.execution.attempt != started.attempt:
                return
            note = "The call was cancelled while it ran."
            if started.tool.effect is Effect.ONCE:
                note += " Whether it took effect is not known."
            await self._close(tx, opened, ExecutionStatus.CANCELLED, note)

    async def check_arguments(
        self, tx: Transaction, approval: Approval, arguments: Mapping[str, JsonValue]
    ) -> None:
        """Raise `Invalid` where edited arguments do not fit the tool's schema."""
        opened = await self._opened(tx, approval)
        tool = None if opened is None else self._toolbox.get(opened.execution.tool_name)
        if tool is None:
            raise Invalid("arguments", "There are no arguments to edit.")
        try:
            check(tool, dict(arguments))
        except BadArguments as error:
            raise Invalid("arguments", str(error)) from None

    async def decided(self, tx: Transaction, approval: Approval) -> None:
        """Make the call ready with exactly what was approved, or refuse it with the reason."""
        opened = await self._opened(tx, approval)
        if opened is None or opened.execution.status is not ExecutionStatus.WAITING:
            return
        line = opened.execution
        tool = self._toolbox.get(line.tool_name)
        if approval.status is ApprovalStatus.APPROVED and tool is not None:
            await self._approve(tx, opened, tool, approval)
        elif approval.status is ApprovalStatus.CANCELLED:
            reason = "The turn was stopped before this call ran."
            await self._close(tx, opened, ExecutionStatus.CANCELLED, reason)
        else:
            await self._close(tx, opened, ExecutionStatus.DENIED, _refusal(approval))

    async def _approve(
        self, tx: Transaction, opened: OpenedExecution, tool: Tool, approval: Approval
    ) -> None:
        """Keep the hash of what was judged; edited arguments are judged by whoever edited them."""
        line = opened.execution
        arguments, bound = line.arguments, line.binding
        if approval.arguments is not None:
            arguments = approval.arguments
            permissions = await self._permissions.current()
            version = policy.policy_version(opened.asker, permissions)
            bound = policy.binding(tool, arguments, version)
        await self._ledger.approve(tx, line.id, arguments, bound)

    async def grant(self, tx: Transaction, approval: Approval, granted_by: str) -> None:
        """Allow the approval's tool for the rest of its chat, where such a tool may be."""
        opened = await self._opened(tx, approval)
        tool = None if opened is None else self._toolbox.get(opened.execution.tool_name)
        if opened is not None and tool is not None and tool.may_be_always_allowed:
            line = opened.execution
            await self._ledger.grant(tx, line.conversation_id, tool.name, granted_by)

    async def _opened(self, tx: Transaction, approval: Approval) -> OpenedExecution | None:
        if approval.tool_execution_id is None:
            return None
        return await self._ledger.opened(tx, approval.tool_execution_id)


def _started(tool: Tool, opened: OpenedExecution, attempt: int) -> _Started:
    line = opened.execution
    return _Started(
        tool=tool,
        asker=opened.asker,
        line=line,
        attempt=attempt,
        place=ToolPlace(
            conversation_id=line.conversation_id,
            agent_id=line.agent_id or 0,
            project_id=opened.project_id,
        ),
    )


def _status_of(outcome: ToolOutcome) -> ExecutionStatus:
    return ExecutionStatus.FAILED if outcome.is_error else ExecutionStatus.DONE


def _capped(content: str) -> str:
    """Return a result as it may be stored: without NULs, and not too long."""
    text = content.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    more = len(text) - MOST_CHARACTERS
    return text if more <= 0 else text[:MOST_CHARACTERS] + _CUT.format(more=more)


def _refusal(approval: Approval) -> str:
    if approval.status is ApprovalStatus.EXPIRED:
        return "Denied: nobody answered in time."
    reason = approval.rejection_reason
    return f"Denied by a person: {reason}" if reason else "Denied by a person."

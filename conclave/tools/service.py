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

from pydantic import JsonValue

from conclave.db import Database, Transaction
from conclave.errors import ConclaveError, Invalid
from conclave.events import EventLog
from conclave.failpoints import Failpoint, reach
from conclave.ports.tools import Toolbox
from conclave.tools import policy
from conclave.tools.arguments import BadArguments, check
from conclave.tools.errors import ExecutionNotFound, LateToolAttempt
from conclave.tools.handoffs import Handoffs
from conclave.tools.ledger import OpenedExecution, ToolLedger
from conclave.tools.permissions import PermissionService
from conclave.tools.repository import ToolRepository
from schema.domain.approvals import Approval, ApprovalRequest, ApprovalStatus
from schema.domain.base import Shape
from schema.domain.tools import (
    FINAL,
    Effect,
    ExecutionStatus,
    Tool,
    ToolOutcome,
    ToolPlace,
    ToolVerdict,
)
from schema.payloads.tools import ExecuteInput, ExecuteResult

MOST_CHARACTERS = 60_000
"""Of a result, as it is stored and sent to the model."""
TRIES = 5
_LOOKS = 3
_UNKNOWN = (
    "The outcome of this call is unknown: the worker died while it ran. It was not repeated. "
    "Check whether it took effect before you call it again."
)
_LATE = "Another attempt runs this call, or its turn is over."
_CUT = "\n[cut: {more} characters more. Ask for a part of it.]"


class _Started(Shape):
    """A call that may run now."""

    tool: Tool
    opened: OpenedExecution
    attempt: int


class ToolService:
    """Runs calls, and hears what became of the approvals they wait for."""

    def __init__(
        self,
        db: Database,
        events: EventLog,
        toolbox: Toolbox,
        permissions: PermissionService,
        handoffs: Handoffs,
    ) -> None:
        self._db = db
        self._handoffs = handoffs
        self._toolbox = toolbox
        self._permissions = permissions
        self._ledger = ToolLedger(events)
        self._repository = ToolRepository()

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
        started = await self._begin(asked.execution_id)
        if isinstance(started, ExecuteResult):
            return started
        try:
            outcome = await self._outcome(started.tool, started.opened, asked.timeout)
        except ConclaveError as error:
            again = error.retryable and started.tool.effect is not Effect.ONCE
            if again and started.attempt < TRIES:
                raise
            outcome = ToolOutcome(content=error.message, is_error=True)
        except asyncio.CancelledError:
            if cancel_is_asked():
                await asyncio.shield(self._cancelled(asked.execution_id, started))
            raise
        async with self._db.autocommit() as tx:
            status = await self._ledger.close(tx, started.opened, _capped(outcome), started.attempt)
        return _in_time(status)

    async def _glance(self, asked: ExecuteInput) -> ExecuteResult | None:
        """Run a call that only looks at files, and note it when it is over.

        None where the ledger has to be asked step by step: what is no glance, what may not run
        any more, and what cannot answer yet, which is tried again.
        """
        opened = self._handoffs.take(asked.execution_id) or await self._read(asked.execution_id)
        if opened.is_over or opened.execution.status is not ExecutionStatus.READY:
            return None
        tool = self._toolbox.get(opened.execution.tool_name)
        if tool is None or not tool.is_glance or await self._objection(tool, opened) is not None:
            return None
        begun = time.monotonic()
        try:
            outcome = await self._outcome(tool, opened, asked.timeout)
        except ConclaveError:
            return None
        took = time.monotonic() - begun
        async with self._db.autocommit() as tx:
            status = await self._ledger.note(tx, opened, _capped(outcome), took)
        return _in_time(status)

    async def _outcome(self, tool: Tool, opened: OpenedExecution, timeout: int) -> ToolOutcome:
        """Run the tool, so many seconds at most. Raises what the tool raises."""
        line = opened.execution
        place = ToolPlace(
            conversation_id=line.conversation_id,
            agent_id=line.agent_id or 0,
            project_id=opened.project_id,
            most_deleted_mb=opened.asker.risk_rules.max_file_delete_mb,
            task_id=opened.task_id,
        )
        try:
            async with asyncio.timeout(timeout):
                outcome = await self._toolbox.run(tool, line.arguments, place)
        except TimeoutError:
            message = f"The tool did not end within {timeout} s."
            return ToolOutcome(content=message, is_error=True)
        reach(Failpoint.IN_TOOL, "conversation", line.conversation_id, "call", line.id)
        return outcome

    async def _begin(self, execution_id: int) -> _Started | ExecuteResult:
        """Note that a call runs, or say how it ended; looks again where others were quicker."""
        for _ in range(_LOOKS):
            opened = await self._read(execution_id)
            tool = self._toolbox.get(opened.execution.tool_name)
            if opened.execution.status in FINAL:
                return ExecuteResult(status=opened.execution.status)
            refused = await self._ending(tool, opened)
            async with self._db.autocommit() as tx:
                if refused is not None:
                    status = await self._ledger.refuse(tx, opened, *refused)
                    if status is not None:
                        return ExecuteResult(status=status)
                elif tool is not None:
                    attempt = await self._ledger.start(tx, opened)
                    if attempt is not None:
                        return _Started(tool=tool, opened=opened, attempt=attempt)
        raise LateToolAttempt(_LATE)

    async def _read(self, execution_id: int) -> OpenedExecution:
        async with self._db.autocommit() as tx:
            opened = await self._ledger.opened(tx, execution_id)
        if opened is None:
            raise ExecutionNotFound(execution_id)
        return opened

    async def _ending(
        self, tool: Tool | None, opened: OpenedExecution
    ) -> tuple[ExecutionStatus, str] | None:
        """Say how and why a call that is not over ends without running."""
        line = opened.execution
        if opened.is_over:
            return ExecutionStatus.CANCELLED, "The turn is over."
        if line.status is ExecutionStatus.RUNNING and line.effect is Effect.ONCE:
            return ExecutionStatus.UNKNOWN, _UNKNOWN
        objection = "The tool is gone." if tool is None else await self._objection(tool, opened)
        return None if objection is None else (ExecutionStatus.DENIED, objection)

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

    async def _cancelled(self, execution_id: int, started: _Started) -> None:
        """Note that a call was cut on purpose; a `once` call may have had its effect."""
        note = "The call was cancelled while it ran."
        if started.tool.effect is Effect.ONCE:
            note += " Whether it took effect is not known."
        async with self._db.transaction() as tx:
            opened = await self._ledger.opened(tx, execution_id, lock=True)
            if opened is not None and opened.execution.attempt == started.attempt:
                await self._ledger.refuse(tx, opened, ExecutionStatus.CANCELLED, note)

    async def asked(self, tx: Transaction, wanted: ApprovalRequest) -> ApprovalRequest:
        """Take any: one that a program asks for belongs to no call of the ledger."""
        return wanted

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
            await self._ledger.refuse(tx, opened, ExecutionStatus.CANCELLED, reason)
        else:
            await self._ledger.refuse(tx, opened, ExecutionStatus.DENIED, _refusal(approval))

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
        await self._repository.approve(tx, line.id, arguments, bound)

    async def grant(self, tx: Transaction, approval: Approval, granted_by: str) -> None:
        """Allow the approval's tool for the rest of its chat, where such a tool may be."""
        opened = await self._opened(tx, approval)
        tool = None if opened is None else self._toolbox.get(opened.execution.tool_name)
        if opened is not None and tool is not None and tool.may_be_always_allowed:
            line = opened.execution
            await self._repository.grant(tx, line.conversation_id, tool.name, granted_by)

    async def _opened(self, tx: Transaction, approval: Approval) -> OpenedExecution | None:
        if approval.tool_execution_id is None:
            return None
        return await self._ledger.opened(tx, approval.tool_execution_id, lock=True)


def _in_time(status: ExecutionStatus | None) -> ExecuteResult:
    if status is None:
        raise LateToolAttempt(_LATE)
    return ExecuteResult(status=status)


def _capped(outcome: ToolOutcome) -> ToolOutcome:
    """Return an answer as it may be stored: without NULs, and not too long."""
    text = outcome.content.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    text = text.encode("utf-8", "replace").decode()
    more = len(text) - MOST_CHARACTERS
    if more > 0:
        text = text[:MOST_CHARACTERS] + _CUT.format(more=more)
    return outcome.model_copy(update={"content": text})


def _refusal(approval: Approval) -> str:
    if approval.status is ApprovalStatus.EXPIRED:
        return "Denied: nobody answered in time."
    reason = approval.rejection_reason
    return f"Denied by a person: {reason}" if reason else "Denied by a person."

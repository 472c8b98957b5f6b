"""The tool desk: what a turn is offered, and what becomes of the calls its replies ask for.

Everything here happens inside the turn's own transactions.
"""

from __future__ import annotations

from collections.abc import Sequence

from conclave.db import Transaction
from conclave.events import EventLog
from conclave.ports.tools import ApprovalDesk, Toolbox
from conclave.tools import policy
from conclave.tools.arguments import BadArguments, parse
from conclave.tools.handoffs import Handoffs
from conclave.tools.ledger import OpenedExecution
from conclave.tools.permissions import PermissionService
from conclave.tools.repository import JudgedCall, Surroundings, ToolRepository
from conclave.tools.telling import asked_event, denied_event, result_event
from schema.domain.approvals import TOOL_CALL, ApprovalRequest, RiskLevel
from schema.domain.events import EventDraft
from schema.domain.llm import ToolCall, ToolSpec
from schema.domain.permissions import Permissions
from schema.domain.tools import (
    Effect,
    ExecutionStatus,
    StepPlace,
    Tool,
    ToolAsker,
    ToolExecution,
    ToolVerdict,
)
from schema.payloads.tools import ToolRef

MOST_CALLS = 32
"""Of one reply: more at once are refused, not run."""
_UNJUDGED = "no such call can run"


class ToolDeskService:
    """A `ToolDesk`."""

    def __init__(
        self,
        toolbox: Toolbox,
        permissions: PermissionService,
        approvals: ApprovalDesk,
        events: EventLog,
        handoffs: Handoffs,
    ) -> None:
        self._toolbox = toolbox
        self._permissions = permissions
        self._approvals = approvals
        self._events = events
        self._handoffs = handoffs
        self._ledger = ToolRepository()

    async def offered(self, asker: ToolAsker) -> list[ToolSpec]:
        """Return the tools the model is told of."""
        if not asker.may_have_tools:
            return []
        permissions = await self._permissions.current()
        return [
            ToolSpec(name=tool.name, description=tool.description, parameters=tool.parameters)
            for tool in self._toolbox.all()
            if policy.is_offered(tool, asker, permissions)
        ]

    async def record(
        self, tx: Transaction, asker: ToolAsker, place: StepPlace, calls: Sequence[ToolCall]
    ) -> list[ToolRef]:
        """Judge and store the calls of a reply; tell of those that wait, are refused or failed."""
        permissions = await self._permissions.current()
        around = await self._ledger.surroundings(tx, place.conversation_id)
        judged = [
            self._judge(position, call, asker, permissions, around.granted)
            for position, call in enumerate(calls)
        ]
        executions = await self._ledger.insert(tx, place, asker.agent_id, judged)
        for position, line in enumerate(executions):
            if line.status is ExecutionStatus.WAITING:
                executions[position] = await self._ask(tx, asker, line)
            elif line.status is ExecutionStatus.READY and self._is_glance(line):
                self._handoffs.leave(tx, _ready(line, asker, around))
        await self._events.append(tx, _events(asker, executions))
        return await self._refs(tx, executions)

    async def refs(self, tx: Transaction, place: StepPlace) -> list[ToolRef]:
        """Return the calls stored with a step, as they stand."""
        return await self._refs(tx, await self._ledger.of_step(tx, place))

    async def cancel_open(self, tx: Transaction, conversation_id: int, reason: str) -> None:
        """Close what is not over; a call that runs just now may have had its effect."""
        await self._approvals.cancel_of(tx, conversation_id=conversation_id)
        for execution in await self._ledger.open_of(tx, conversation_id):
            ran = execution.status is ExecutionStatus.RUNNING and execution.effect is Effect.ONCE
            note = " It had been started: whether it took effect is not known." if ran else ""
            await self._ledger.cancel(tx, execution.id, reason + note)

    def _judge(
        self,
        position: int,
        call: ToolCall,
        asker: ToolAsker,
        permissions: Permissions,
        granted: frozenset[str],
    ) -> JudgedCall:
        tool = self._toolbox.get(call.name)
        if tool is None:
            known = ", ".join(sorted(tool.name for tool in self._toolbox.all()))
            return _failed(position, call, f"There is no tool {call.name[:64]!r}. Tools: {known}")
        if position >= MOST_CALLS:
            return _failed(position, call, f"Too many calls at once: at most {MOST_CALLS}.")
        try:
            arguments = parse(tool, call.arguments)
        except BadArguments as error:
            return _failed(position, call, str(error))
        judgement = policy.judge(tool, asker, permissions, granted=tool.name in granted)
        status = {
            ToolVerdict.ALLOW: ExecutionStatus.READY,
            ToolVerdict.ASK: ExecutionStatus.WAITING,
            ToolVerdict.DENY: ExecutionStatus.DENIED,
        }[judgement.verdict]
        is_denied = status is ExecutionStatus.DENIED
        return JudgedCall(
            position=position,
            tool_use_id=call.id[:255],
            tool_name=tool.name,
            arguments=arguments,
            effect=tool.effect,
            verdict=judgement.verdict,
            rule=judgement.rule,
            binding=policy.binding(tool, arguments, policy.policy_version(asker, permissions)),
            status=status,
            result=f"Denied: {judgement.rule}." if is_denied else None,
            is_error=is_denied,
        )

    async def _ask(self, tx: Transaction, asker: ToolAsker, line: ToolExecution) -> ToolExecution:
        """Ask for a yes; return the line as it waits for it."""
        tool = self._toolbox.get(line.tool_name)
        approval = await self._approvals.request(
            tx,
            ApprovalRequest(
                type=TOOL_CALL,
                action=f"execute_tool:{line.tool_name}",
                description=f"{asker.agent_name} wants to use {line.tool_name}",
                risk_level=_risk(tool),
                task_id=asker.task_id,
                agent_id=asker.agent_id,
                conversation_id=asker.conversation_id,
                tool_execution_id=line.id,
                owner=asker.private_owner,
                details={"tool_name": line.tool_name, "tool_args": line.arguments},
            ),
        )
        await self._ledger.set_approval(tx, line.id, approval.id)
        return line.model_copy(update={"approval_id": approval.id})

    async def _refs(self, tx: Transaction, executions: Sequence[ToolExecution]) -> list[ToolRef]:
        asked = [one.approval_id for one in executions if one.approval_id is not None]
        expiries = await self._ledger.expiries(tx, asked) if asked else {}
        return [
            ToolRef(
                execution_id=one.id,
                verdict=one.verdict,
                effect=one.effect,
                label=one.tool_name,
                timeout=self._timeout(one.tool_name),
                is_quick=self._is_quick(one.tool_name),
                approval_id=one.approval_id,
                expires_at=expiries.get(one.approval_id or 0),
            )
            for one in executions
        ]

    def _is_glance(self, line: ToolExecution) -> bool:
        tool = self._toolbox.get(line.tool_name)
        return tool is not None and tool.is_glance

    def _is_quick(self, name: str) -> bool:
        tool = self._toolbox.get(name)
        return tool is not None and tool.is_quick

    def _timeout(self, name: str) -> int:
        tool = self._toolbox.get(name)
        return 30 if tool is None else tool.timeout_seconds


def _ready(line: ToolExecution, asker: ToolAsker, around: Surroundings) -> OpenedExecution:
    """Return a call that may run, as it would be read from the ledger."""
    return OpenedExecution(
        execution=line,
        asker=asker,
        project_id=around.project_id,
        task_id=around.task_id,
        is_granted=line.tool_name in around.granted,
        is_over=False,
    )


def _failed(position: int, call: ToolCall, message: str) -> JudgedCall:
    return JudgedCall(
        position=position,
        tool_use_id=call.id[:255],
        tool_name=call.name[:128],
        arguments={},
        effect=Effect.READ,
        verdict=ToolVerdict.DENY,
        rule=_UNJUDGED,
        binding="",
        status=ExecutionStatus.FAILED,
        result=message,
        is_error=True,
    )


def _risk(tool: Tool | None) -> RiskLevel:
    if tool is None or tool.is_dangerous:
        return RiskLevel.HIGH
    return RiskLevel.LOW if tool.is_reading else RiskLevel.MEDIUM


def _events(asker: ToolAsker, executions: Sequence[ToolExecution]) -> list[EventDraft]:
    drafts: list[EventDraft] = []
    by_rule: dict[str, list[ToolExecution]] = {}
    for one in executions:
        if one.status is ExecutionStatus.DENIED:
            by_rule.setdefault(one.rule, []).append(one)
        elif one.status is ExecutionStatus.FAILED:
            drafts.append(result_event(asker, one))
    drafts.extend(denied_event(asker, denied, rule) for rule, denied in by_rule.items())
    waiting = [one for one in executions if one.status is ExecutionStatus.WAITING]
    if waiting:
        drafts.append(asked_event(asker, waiting))
    return drafts

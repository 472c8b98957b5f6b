"""Scenes of turns with tools, and of approvals, to be recorded. Each returns the ids of its runs.

Chats stay open after their turns, so that no run of theirs is closed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from conclave.approvals.commands import Decide
from schema.domain.approvals import ApprovalRequest, ApproverRole
from schema.domain.conversations import Conversation
from schema.domain.events import EventType
from schema.domain.identity import LOCAL_PRINCIPAL, Principal, PrincipalKind, Role
from schema.domain.permissions import PermissionMode
from schema.payloads import names
from tests.fakes.model_server import Reply
from tests.fakes.toolbox import TestTools
from tests.harness.chats import (
    approval_runs,
    is_over,
    open_chat,
    pending_approvals,
    say,
    set_mode,
    turn_ended,
)
from tests.harness.stack import Stack
from tests.waiting import until

Scene = Callable[[Stack, TestTools], Awaitable[list[str]]]


async def tools_side_by_side(stack: Stack, tools: TestTools) -> list[str]:
    """Three calls at once, of which one answers at the third try; a fourth one in a next step."""
    tools.failures = 2
    chat = await _chat(stack, PermissionMode.AUTONOMOUS, "look keep send", "send", "")
    await _ends(stack, chat, "end_turn")
    return [_id(chat)]


async def tools_quick(stack: Stack, tools: TestTools) -> list[str]:
    """A quick call beside one that is not, on the two queues; the quick one answers later."""
    tools.failures = 1
    tools.held.set()
    chat = await _chat(stack, PermissionMode.AUTONOMOUS, "glimpse keep", "")
    await _ends(stack, chat, "end_turn")
    return [_id(chat)]


async def tools_denied(stack: Stack, tools: TestTools) -> list[str]:
    """Everything is denied, three times over; the turn is stopped, and the next one is spoken."""
    chat = await _chat(stack, PermissionMode.READONLY, "send", "send keep", "send", "")
    await _ends(stack, chat, "tool_denied")
    await say(stack.core, chat.id, "And?")
    await turn_ended(stack.core, chat.id, 2)
    return [_id(chat)]


async def tools_approved(stack: Stack, tools: TestTools) -> list[str]:
    """Two approvals side by side: one by a signal, one in the record; both calls run."""
    chat = await _chat(stack, PermissionMode.INTERACTIVE, "send keep", "")
    first, second = await pending_approvals(stack.core, chat.id, 2)
    await approval_runs(stack.client, first.id)
    await approval_runs(stack.client, second.id)
    await _signal(stack, first.id, "approve")
    await stack.core.approvals.decide(second.id, Decide(approve=True), LOCAL_PRINCIPAL)
    await _ends(stack, chat, "end_turn")
    return [_id(chat), await _over(stack, first.id), await _over(stack, second.id)]


async def tools_refused(stack: Stack, tools: TestTools) -> list[str]:
    """A no in the record and a no by a signal, beside a call that is allowed."""
    chat = await _chat(stack, PermissionMode.INTERACTIVE, "send send look", "", look="allow")
    first, second = await pending_approvals(stack.core, chat.id, 2)
    await approval_runs(stack.client, first.id)
    await approval_runs(stack.client, second.id)
    await stack.core.approvals.decide(first.id, Decide(approve=False), LOCAL_PRINCIPAL)
    await _signal(stack, second.id, "reject")
    await _ends(stack, chat, "end_turn")
    return [_id(chat), await _over(stack, first.id), await _over(stack, second.id)]


async def tools_cancelled(stack: Stack, tools: TestTools) -> list[str]:
    """A cancel with a call that runs and one that waits for its approval."""
    chat = await _chat(stack, PermissionMode.INTERACTIVE, "wait send", wait="allow")
    [approval] = await pending_approvals(stack.core, chat.id)
    await approval_runs(stack.client, approval.id)
    await until(tools.entered.is_set, what="the tool to start")
    await stack.core.conversations.cancel_turn(chat.id, LOCAL_PRINCIPAL)
    await _ends(stack, chat, "cancelled")
    return [_id(chat), await _over(stack, approval.id)]


async def tools_waiting(stack: Stack, tools: TestTools) -> list[str]:
    """Still open: a call runs and another one waits for its approval."""
    chat = await _chat(stack, PermissionMode.INTERACTIVE, "wait send", wait="allow")
    [approval] = await pending_approvals(stack.core, chat.id)
    await approval_runs(stack.client, approval.id)
    await until(tools.entered.is_set, what="the tool to start")
    return [_id(chat), names.approval_workflow_id(approval.id)]


async def approval_expired(stack: Stack, tools: TestTools) -> list[str]:
    """Asked for by a program; nobody answers, and its own timer ends it."""
    asked = ApprovalRequest(type="deploy", action="deploy", expires_in_seconds=1)
    approval = await stack.core.approvals.create(asked)
    return [await _over(stack, approval.id)]


async def approval_woken(stack: Stack, tools: TestTools) -> list[str]:
    """Asked for by a program; a signal without effect, then a decision in the record."""
    asked = ApprovalRequest(type="deploy", action="deploy", expires_in_seconds=3600)
    approval = await stack.core.approvals.create(asked)
    await approval_runs(stack.client, approval.id)
    await _signal(stack, approval.id, names.WAKE_SIGNAL)
    await stack.core.approvals.decide(approval.id, Decide(approve=True), LOCAL_PRINCIPAL)
    return [await _over(stack, approval.id)]


async def approval_escalated(stack: Stack, tools: TestTools) -> list[str]:
    """Two have to agree: one at once, one of the second group that its first timer lets in."""
    asked = ApprovalRequest(
        type="deploy",
        action="deploy",
        expires_in_seconds=3600,
        required_approvals=2,
        escalate_after_seconds=2,
        escalate_to=ApproverRole.ADMINS,
    )
    approval = await stack.core.approvals.create(asked)
    await approval_runs(stack.client, approval.id)
    await stack.core.approvals.decide(approval.id, Decide(approve=True), _person(1))
    await until(lambda: _is_escalated(stack, approval.id), timeout=30, what="the escalation")
    await stack.core.approvals.decide(approval.id, Decide(approve=True), _person(2))
    return [await _over(stack, approval.id)]


SCENES: tuple[Scene, ...] = (
    tools_side_by_side,
    tools_quick,
    tools_denied,
    tools_approved,
    tools_refused,
    tools_cancelled,
    tools_waiting,
    approval_expired,
    approval_woken,
    approval_escalated,
)


def _person(user_id: int) -> Principal:
    return Principal(kind=PrincipalKind.USER, id=user_id, user_id=user_id, role=Role.ADMIN)


async def _is_escalated(stack: Stack, approval_id: int) -> bool:
    """Whether the workflow had the record escalate: reading it through the service would too."""
    stream = f"approval-{approval_id}"
    async with stack.core.db.transaction() as tx:
        events = await stack.core.events.of_stream(tx, stream, after_seq=0)
    return any(event.type is EventType.APPROVAL_ESCALATED for event in events)


async def _chat(
    stack: Stack, mode: PermissionMode, *replies: str, **overrides: str
) -> Conversation:
    """Begin a turn whose replies ask for these tools; an empty one is its last word."""
    await set_mode(stack.core, mode, **overrides)
    [agent] = await stack.agents("Ada")
    chat = await open_chat(stack.core, agent.id)
    for reply in replies:
        calls = [(name, {"text": name}) for name in reply.split()]
        stack.model.script.append(Reply(tool_calls=calls) if calls else Reply(text="done"))
    await say(stack.core, chat.id)
    return chat


async def _ends(stack: Stack, chat: Conversation, reason: str) -> None:
    stopped = await turn_ended(stack.core, chat.id)
    if stopped != reason:
        raise AssertionError(f"the turn stopped because of {stopped}, not of {reason}")


async def _signal(stack: Stack, approval_id: int, name: str) -> None:
    handle = stack.client.get_workflow_handle(names.approval_workflow_id(approval_id))
    await handle.signal(name)


async def _over(stack: Stack, approval_id: int) -> str:
    workflow_id = names.approval_workflow_id(approval_id)
    await until(lambda: is_over(stack.client, workflow_id), timeout=30, what=workflow_id)
    return workflow_id


def _id(chat: Conversation) -> str:
    return names.conversation_workflow_id(chat.id, 1)

"""One approval, many who decide it at the same moment: one counts, the others are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from sqlalchemy import text, update
from temporalio.service import RPCError, RPCStatusCode

from conclave.approvals.commands import Decide
from conclave.approvals.errors import ApprovalNotPending
from schema.domain.approvals import Approval, ApprovalStatus
from schema.domain.identity import LOCAL_PRINCIPAL, Principal, PrincipalKind, Role
from schema.domain.permissions import PermissionMode
from schema.payloads import names
from schema.tables.tools import ApprovalRow
from tests.conftest import Apart
from tests.fakes.model_server import Received, Reply
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
from tests.harness.stack import Stack, running_stack
from tests.waiting import until

CALLERS = 10
ROUNDS = 4


@pytest.fixture(scope="module")
async def tools(tmp_path_factory: pytest.TempPathFactory) -> TestTools:
    return TestTools(tmp_path_factory.mktemp("races") / "sent.txt")


@pytest.fixture(scope="module")
async def stack(apart: Apart, tools: TestTools) -> AsyncIterator[Stack]:
    async with running_stack(
        apart.postgres_url, apart.temporal_address, toolbox=tools.registry()
    ) as started:
        await set_mode(started.core, PermissionMode.INTERACTIVE)
        yield started


async def waiting(stack: Stack, tools: TestTools, calls: int = 1) -> list[Approval]:
    """Bring a chat to where so many calls wait for a verdict."""
    tools.reset()
    stack.model.reset()

    def respond(received: Received) -> Reply:
        if received.body["messages"][-1]["role"] == "tool":
            return Reply(text="done")
        return Reply(tool_calls=[("send", {"text": f"line {n}"}) for n in range(calls)])

    stack.model.responder = respond
    [agent] = await stack.agents("Ada")
    chat = await open_chat(stack.core, agent.id)
    await say(stack.core, chat.id)
    approvals = await pending_approvals(stack.core, chat.id, calls)
    for approval in approvals:
        await approval_runs(stack.client, approval.id)
    return approvals


async def decide(stack: Stack, approval: Approval, *, approve: bool) -> Approval | str:
    """Decide; return what came of it, or how it stood already."""
    command = Decide(approve=approve)
    try:
        return await stack.core.approvals.decide(approval.id, command, LOCAL_PRINCIPAL)
    except ApprovalNotPending as error:
        return str(error.details["status"])


async def signal(stack: Stack, approval: Approval, name: str) -> None:
    """Signal as a person would; a workflow that has ended takes none."""
    handle = stack.client.get_workflow_handle(names.approval_workflow_id(approval.id))
    try:
        await handle.signal(name)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


async def written(stack: Stack, approval: Approval) -> tuple[int, int]:
    """Count the decisions in the event stream and in the audit log."""
    async with stack.core.db.transaction() as tx:
        events = await tx.conn.scalar(
            text(
                "SELECT count(*) FROM events WHERE stream = :stream AND type = 'approval.decided'"
            ),
            {"stream": f"approval-{approval.id}"},
        )
        audited = await tx.conn.scalar(
            text(
                "SELECT count(*) FROM audit_entries WHERE resource_type = 'approval'"
                " AND resource_id = :id AND action IN ('approval_approved', 'approval_rejected')"
            ),
            {"id": str(approval.id)},
        )
    return events or 0, audited or 0


async def check(
    stack: Stack, tools: TestTools, approval: Approval, answers: list[Approval | str]
) -> Approval:
    """Check that one decision counted, everywhere; return it."""
    assert approval.conversation_id is not None
    await turn_ended(stack.core, approval.conversation_id)
    workflow_id = names.approval_workflow_id(approval.id)
    await until(lambda: is_over(stack.client, workflow_id), timeout=20, what=workflow_id)
    decided = await stack.core.approvals.get(approval.id, LOCAL_PRINCIPAL)
    winners = [answer for answer in answers if isinstance(answer, Approval)]
    assert winners == ([] if decided.decided_by_key == "temporal" else [decided])
    assert {answer for answer in answers if isinstance(answer, str)} <= {decided.status.value}
    assert await written(stack, approval) == (1, 1)
    return decided


@pytest.mark.parametrize("round_", range(ROUNDS))
async def test_one_of_ten_callers_and_of_signals_decides(
    stack: Stack, tools: TestTools, round_: int
):
    [approval] = await waiting(stack, tools)
    # In every other round the signals have a head start: each side wins some.
    signals = [
        signal(stack, approval, name)
        for name in (names.APPROVE_SIGNAL, names.REJECT_SIGNAL, names.APPROVE_SIGNAL)
    ]
    if round_ % 2:
        await signals.pop(0)
    callers = [decide(stack, approval, approve=bool(n % 2)) for n in range(CALLERS)]
    answers, _ = await asyncio.gather(asyncio.gather(*callers), asyncio.gather(*signals))
    decided = await check(stack, tools, approval, list(answers))
    sent = ["line 0"] if decided.status is ApprovalStatus.APPROVED else []
    assert tools.lines() == sent


async def test_signals_alone_decide_once(stack: Stack, tools: TestTools):
    [approval] = await waiting(stack, tools)
    both = (names.APPROVE_SIGNAL, names.REJECT_SIGNAL)
    await asyncio.gather(*(signal(stack, approval, both[n % 2]) for n in range(CALLERS)))
    decided = await check(stack, tools, approval, [])
    assert decided.decided_by_key == "temporal"
    assert len(tools.lines()) == (decided.status is ApprovalStatus.APPROVED)


def person(user_id: int) -> Principal:
    return Principal(kind=PrincipalKind.USER, id=user_id, user_id=user_id, role=Role.ADMIN)


async def needs(stack: Stack, approval: Approval, people: int) -> None:
    async with stack.core.db.transaction() as tx:
        wanted = update(ApprovalRow).where(ApprovalRow.id == approval.id)
        await tx.conn.execute(wanted.values(required_approvals=people))


async def test_where_several_have_to_agree_signals_count_for_nothing(
    stack: Stack, tools: TestTools
):
    [approval] = await waiting(stack, tools)
    await needs(stack, approval, 2)
    for name in (names.APPROVE_SIGNAL, names.REJECT_SIGNAL):
        await signal(stack, approval, name)
    yes = Decide(approve=True)
    first = await stack.core.approvals.decide(approval.id, yes, person(1))
    assert (first.status, first.approvals_count) == (ApprovalStatus.PENDING, 1)
    votes = [stack.core.approvals.decide(approval.id, yes, person(n)) for n in (2, 3, 4)]
    answers = await asyncio.gather(*votes, return_exceptions=True)
    won = [one for one in answers if isinstance(one, Approval)]
    lost = [str(one.details["status"]) for one in answers if isinstance(one, ApprovalNotPending)]
    assert (len(won), len(lost)) == (1, 2)
    decided = await check(stack, tools, approval, [*won, *lost])
    assert (decided.status, decided.approvals_count) == (ApprovalStatus.APPROVED, 2)
    assert tools.lines() == ["line 0"]


async def test_a_chat_that_ends_takes_what_waits_along_at_once(stack: Stack, tools: TestTools):
    approvals = await waiting(stack, tools, 2)
    chat_id = approvals[0].conversation_id
    assert chat_id is not None
    await stack.core.conversations.end(chat_id, LOCAL_PRINCIPAL)
    for approval in approvals:
        assert await decide(stack, approval, approve=True) == "cancelled"
        workflow_id = names.approval_workflow_id(approval.id)
        await until(partial(is_over, stack.client, workflow_id), timeout=20, what=workflow_id)
        assert await written(stack, approval) == (1, 0)
    assert tools.lines() == []


async def test_several_that_wait_at_once_are_decided_apart(stack: Stack, tools: TestTools):
    approvals = await waiting(stack, tools, 5)
    attempts = [
        decide(stack, approval, approve=place % 2 == 0)
        for place, approval in enumerate(approvals)
        for _ in range(3)
    ]
    answers = await asyncio.gather(*attempts)
    for place, approval in enumerate(approvals):
        decided = await check(stack, tools, approval, answers[place * 3 : place * 3 + 3])
        wanted = ApprovalStatus.REJECTED if place % 2 else ApprovalStatus.APPROVED
        assert decided.status is wanted
    assert sorted(tools.lines()) == ["line 0", "line 2", "line 4"]

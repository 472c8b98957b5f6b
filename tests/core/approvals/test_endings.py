"""What asked ends and takes its approvals along; tasks hear of theirs; budgets are raised."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select, update

from conclave.approvals.errors import ApprovalNotPending, SubjectNotFound, TaskHasEnded
from conclave.db import Transaction
from conclave.errors import ConclaveError, Invalid
from schema.domain.approvals import Approval, ApprovalRequest, ApprovalStatus
from schema.tables.conversations import ConversationRow
from schema.tables.tasks import TaskRow
from tests.core.approvals.conftest import Desk, person
from tests.waiting import until

CANCELLED, PENDING = ApprovalStatus.CANCELLED, ApprovalStatus.PENDING


async def asked_in(desk: Desk, conversation_id: int, **fields: object) -> Approval:
    """Ask as an agent's turn does, in the conversation's own transaction."""
    request = ApprovalRequest.model_validate(
        {"type": "x", "action": "x", "conversation_id": conversation_id, **fields}
    )
    async with desk.db.transaction() as tx:
        await lock(tx, conversation_id)
        return await desk.service.request(tx, request)


async def lock(tx: Transaction, conversation_id: int, task_id: int | None = None) -> None:
    """Lock as those do who end what asks."""
    conversation = select(ConversationRow.id).where(ConversationRow.id == conversation_id)
    await tx.conn.execute(conversation.with_for_update())
    if task_id is not None:
        await tx.conn.execute(select(TaskRow.id).where(TaskRow.id == task_id).with_for_update())


async def test_a_task_that_ends_cancels_what_people_and_its_agent_asked_for(desk: Desk):
    task_id, conversation_id = await desk.task()
    other, _ = await desk.task()
    mine = [
        await desk.ask(task_id=task_id, required_approvals=2),
        await asked_in(desk, conversation_id),
    ]
    await desk.decide(mine[0], person(1))
    over = await desk.ask(task_id=task_id)
    await desk.decide(over, person(1))
    another = await desk.ask(task_id=other)
    desk.tasks.changed.clear()
    async with desk.db.transaction() as tx:
        assert await desk.service.cancel_of(tx, task_id=task_id) == 2
    assert desk.tasks.changed == []  # it is ending: it does not go back to work
    assert [(await desk.read(one)).status for one in mine] == [CANCELLED] * 2
    assert (await desk.read(over)).status is ApprovalStatus.APPROVED
    assert (await desk.read(another)).status is PENDING
    await until(
        lambda: {one.id for one in mine} <= {*desk.engine.approvals_woken}, what="the wake-ups"
    )
    assert [type_ for type_, _ in await desk.events(mine[0])][-1] == "approval.decided"
    with pytest.raises(ApprovalNotPending):
        await desk.decide(mine[0], person(2))


async def test_what_is_cancelled_is_pending_again_where_its_transaction_fails(desk: Desk):
    task_id, _ = await desk.task()
    asked = await desk.ask(task_id=task_id)

    async def fails() -> None:
        async with desk.db.transaction() as tx:
            await desk.service.cancel_of(tx, task_id=task_id)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fails()
    assert (await desk.read(asked)).status is PENDING


async def test_a_turn_that_ends_lets_its_task_go_back_to_work(desk: Desk):
    task_id, conversation_id = await desk.task()
    by_agent = await asked_in(desk, conversation_id)
    by_hand = await desk.ask(task_id=task_id)
    desk.tasks.changed.clear()
    async with desk.db.transaction() as tx:
        assert await desk.service.cancel_of(tx, conversation_id=conversation_id) == 1
    assert (await desk.read(by_agent)).status is CANCELLED
    assert (await desk.read(by_hand)).status is PENDING
    assert desk.tasks.changed == [task_id]


async def test_an_agent_that_is_deleted_takes_its_approvals_along(desk: Desk):
    agent_id = await desk.agent()
    asked, other = await desk.ask(agent_id=agent_id), await desk.ask()
    async with desk.db.transaction() as tx:
        assert await desk.service.cancel_of(tx, agent_id=agent_id) == 1
    assert (await desk.read(asked)).status is CANCELLED
    assert (await desk.read(other)).status is PENDING


async def test_of_nothing_there_is_nothing_to_cancel(desk: Desk):
    asked = await desk.ask()
    async with desk.db.transaction() as tx:
        assert await desk.service.cancel_of(tx) == 0
    assert (await desk.read(asked)).status is PENDING


async def test_a_task_hears_of_each_approval_that_is_asked_for_and_that_ends(desk: Desk):
    task_id, conversation_id = await desk.task()
    asked = [await desk.ask(task_id=task_id, required_approvals=2) for _ in range(3)]
    asked.append(await asked_in(desk, conversation_id))
    assert desk.tasks.changed == [task_id] * 4
    await desk.decide(asked[0], person(1))
    assert desk.tasks.changed == [task_id] * 4  # a vote that does not decide changes nothing
    await desk.decide(asked[0], person(2))
    await desk.decide(asked[1], person(1), approve=False)
    await desk.shift(asked[2], expires_at=0)
    await desk.service.look(asked[2].id)
    await desk.service.cancel(asked[3].id)
    assert desk.tasks.changed == [task_id] * 8
    await desk.ask()
    assert desk.tasks.changed == [task_id] * 8


async def test_nothing_is_asked_for_a_task_that_is_over_or_not_there(desk: Desk):
    task_id, _ = await desk.task(status="completed")
    with pytest.raises(TaskHasEnded):
        await desk.ask(task_id=task_id)
    with pytest.raises(SubjectNotFound):
        await desk.ask(task_id=99)
    with pytest.raises(SubjectNotFound):
        await desk.ask(agent_id=99)


async def test_whoever_ends_a_task_and_whoever_decides_never_wait_for_each_other(desk: Desk):
    async def end(task_id: int, conversation_id: int) -> None:
        async with desk.db.transaction() as tx:
            await lock(tx, conversation_id, task_id)
            ended = update(TaskRow).where(TaskRow.id == task_id).values(status="cancelled")
            await tx.conn.execute(ended)
            await desk.service.cancel_of(tx, task_id=task_id)

    async def decide(approval: Approval, user_id: int) -> str:
        try:
            return (await desk.decide(approval, person(user_id))).status.value
        except ApprovalNotPending as error:
            return str(error.details["status"])

    for _ in range(8):
        task_id, conversation_id = await desk.task()
        asked = [await desk.ask(task_id=task_id), await asked_in(desk, conversation_id)]
        answers = await asyncio.gather(
            end(task_id, conversation_id),
            *(decide(one, user_id) for one in asked for user_id in (1, 2)),
        )
        told = {str(answer) for answer in answers[1:]}
        assert told <= {"approved", "cancelled"}
        assert PENDING not in [(await desk.read(one)).status for one in asked]


async def test_asking_for_a_task_that_ends_at_the_same_time_leaves_nothing_pending(desk: Desk):
    async def end(task_id: int, conversation_id: int) -> None:
        async with desk.db.transaction() as tx:
            await lock(tx, conversation_id, task_id)
            ended = update(TaskRow).where(TaskRow.id == task_id).values(status="completed")
            await tx.conn.execute(ended)
            await desk.service.cancel_of(tx, task_id=task_id)

    async def ask(task_id: int) -> Approval | None:
        try:
            return await desk.ask(task_id=task_id)
        except TaskHasEnded:
            return None

    for _ in range(8):
        task_id, conversation_id = await desk.task()
        asked, _ = await asyncio.gather(ask(task_id), end(task_id, conversation_id))
        assert asked is None or (await desk.read(asked)).status is CANCELLED


async def budget(desk: Desk, details: object) -> Approval:
    return await desk.ask(type="budget_increase", details=details)


async def test_an_approved_increase_is_granted_once(desk: Desk):
    task_id, _ = await desk.task()
    asked = await budget(desk, {"task_id": str(task_id), "to_usd": 2.5, "why": "slow"})
    assert asked.task_id == task_id
    assert asked.details == {"task_id": task_id, "to_usd": "2.5", "why": "slow"}
    await desk.decide(asked, person(1))
    [granted] = desk.grants.granted_to
    assert (granted.task_id, str(granted.to_usd)) == (task_id, "2.5")


async def test_an_increase_that_was_edited_is_granted_as_edited(desk: Desk):
    task_id, _ = await desk.task()
    asked = await budget(desk, {"task_id": task_id, "to_usd": 2.5})
    for edit in ({"to_usd": 0}, {"to_usd": "much"}, {}, {"to_usd": 1, "task_id": 9}):
        with pytest.raises(Invalid):
            await desk.decide(asked, person(1), arguments=edit)
    await desk.decide(asked, person(1), arguments={"to_usd": "1.25"})
    assert [str(one.to_usd) for one in desk.grants.granted_to] == ["1.25"]


async def test_an_increase_that_is_refused_is_not_granted(desk: Desk):
    task_id, _ = await desk.task()
    asked = await budget(desk, {"task_id": task_id, "to_usd": 2})
    await desk.decide(asked, person(1), approve=False)
    assert desk.grants.granted_to == []


@pytest.mark.parametrize(
    ("details", "field"),
    [
        ({}, "details.task_id"),
        ({"task_id": 1}, "details.to_usd"),
        ({"task_id": 1, "to_usd": 0}, "details.to_usd"),
        ({"task_id": 1, "to_usd": "NaN"}, "details.to_usd"),
        ({"task_id": 1, "to_usd": 10**9}, "details.to_usd"),
        ({"task_id": True, "to_usd": 1}, "details.task_id"),
        ({"task_id": 99, "to_usd": 1}, "task_id"),
    ],
)
async def test_increases_that_make_no_sense_are_refused(desk: Desk, details: object, field: str):
    await desk.task()
    with pytest.raises(ConclaveError) as refused:
        await budget(desk, details)
    error = refused.value
    assert (error.field if isinstance(error, Invalid) else error.details["field"]) == field

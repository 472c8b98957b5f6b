"""How many have to agree: votes one by one and at once, edits that start the count again."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from sqlalchemy import update

from conclave.approvals.errors import AlreadyVoted, ApprovalNotPending, ArgumentsEdited
from conclave.errors import ConclaveError, Invalid
from schema.domain.approvals import Approval, ApprovalStatus
from schema.domain.identity import GATEWAY_PRINCIPAL, Principal
from schema.tables.identity import UserRow
from tests.core.approvals.conftest import ADMINS, OPERATORS, Desk, counted, person
from tests.waiting import until

PENDING, APPROVED = ApprovalStatus.PENDING, ApprovalStatus.APPROVED
REJECTED = ApprovalStatus.REJECTED


async def outcome(desk: Desk, approval: Approval, who: Principal, approve: bool = True) -> str:
    """Vote; return the status that came of it, or the code it was refused with."""
    try:
        return (await desk.decide(approval, who, approve=approve)).status.value
    except ConclaveError as error:
        return error.code


async def budget(desk: Desk, **fields: object) -> Approval:
    task_id, _ = await desk.task()
    details = {"task_id": task_id, "to_usd": 5}
    return await desk.ask(type="budget_increase", details=details, **fields)


async def test_the_last_yes_that_is_needed_decides(desk: Desk):
    asked = await desk.ask(required_approvals=3)
    first = await desk.decide(asked, person(1), note="fine")
    assert counted(first) == (PENDING, 1)
    assert (first.decided_at, first.decided_by) == (None, None)
    assert counted(await desk.decide(asked, person(2))) == (PENDING, 2)
    last = await desk.decide(asked, person(13))
    assert counted(last) == (APPROVED, 3)
    assert (last.decided_by, last.decided_by_key) == (13, "user:13")
    assert [(v.user_id, v.approve, v.note) for v in last.votes] == [
        (1, True, "fine"), (2, True, None), (13, True, None),
    ]  # fmt: skip
    assert all(vote.at >= asked.created_at for vote in last.votes)
    kinds = [type_ for type_, _ in await desk.events(asked)]
    assert kinds == ["approval.requested", *["approval.voted"] * 2, "approval.decided"]
    assert await desk.audited(asked) == [
        "approval_created", "approval_voted", "approval_voted", "approval_approved",
    ]  # fmt: skip
    await until(lambda: desk.engine.approvals_woken == [asked.id], what="the wake-up")


async def test_a_vote_that_does_not_decide_wakes_nobody(desk: Desk):
    asked = await desk.ask(required_approvals=2)
    await until(lambda: desk.engine.approvals_started == [asked.id], what="its workflow")
    await desk.decide(asked, person(1))
    await until(lambda: desk.errands.is_idle, what="the errands")
    assert desk.engine.approvals_woken == []


async def test_one_no_is_enough(desk: Desk):
    asked = await desk.ask(required_approvals=3)
    await desk.decide(asked, person(1))
    ended = await desk.decide(asked, person(2), approve=False, reason="too early")
    assert counted(ended) == (REJECTED, 1)
    assert ended.rejection_reason == "too early"
    assert [(v.user_id, v.approve, v.note) for v in ended.votes][-1] == (2, False, "too early")
    with pytest.raises(ApprovalNotPending):
        await desk.decide(asked, person(3))


async def test_one_person_votes_once(desk: Desk):
    asked = await desk.ask(required_approvals=2)
    await desk.decide(asked, person(1))
    for approve in (True, False):
        with pytest.raises(AlreadyVoted, match="one vote a person"):
            await desk.decide(asked, person(1), approve=approve)
    assert counted(await desk.read(asked)) == (PENDING, 1)
    assert len(await desk.audited(asked)) == 2


async def test_of_two_last_votes_at_once_one_decides(desk: Desk):
    for _ in range(10):
        asked = await desk.ask(required_approvals=2)
        await desk.decide(asked, person(1))
        answers = await asyncio.gather(*(outcome(desk, asked, person(n)) for n in (2, 3)))
        assert sorted(answers) == ["approval_not_pending", "approved"]
        ended = await desk.read(asked)
        assert counted(ended) == (APPROVED, 2)
        assert len(ended.votes) == 2
        kinds = Counter(type_ for type_, _ in await desk.events(asked))
        assert kinds["approval.decided"] == 1


async def test_of_ten_voters_at_once_three_are_counted(desk: Desk):
    asked = await desk.ask(required_approvals=3)
    answers = await asyncio.gather(
        *(outcome(desk, asked, person(user_id)) for user_id in OPERATORS[:10])
    )
    assert Counter(answers) == {"pending": 2, "approved": 1, "approval_not_pending": 7}
    ended = await desk.read(asked)
    assert counted(ended) == (APPROVED, 3)
    assert len({vote.user_id for vote in ended.votes}) == 3
    assert Counter(await desk.audited(asked)) == {
        "approval_created": 1, "approval_voted": 2, "approval_approved": 1,
    }  # fmt: skip


async def test_the_same_person_ten_times_at_once_counts_once(desk: Desk):
    asked = await desk.ask(required_approvals=2)
    answers = await asyncio.gather(*(outcome(desk, asked, person(1)) for _ in range(10)))
    assert Counter(answers) == {"pending": 1, "already_voted": 9}
    assert counted(await desk.read(asked)) == (PENDING, 1)


async def test_of_a_yes_and_a_no_at_once_that_both_would_decide_one_counts(desk: Desk):
    for _ in range(5):
        asked = await desk.ask(required_approvals=2)
        await desk.decide(asked, person(1))
        answers = await asyncio.gather(
            outcome(desk, asked, person(2), True), outcome(desk, asked, person(3), False)
        )
        ended = await desk.read(asked)
        assert sorted(answers) == sorted(["approval_not_pending", ended.status.value])
        assert ended.approvals_count == (2 if ended.status is APPROVED else 1)


async def test_an_edit_by_a_later_voter_starts_the_count_again(desk: Desk):
    asked = await budget(desk, required_approvals=2)
    await desk.decide(asked, person(1))
    edited = await desk.decide(asked, person(2), arguments={"to_usd": 3})
    assert counted(edited) == (PENDING, 1)
    assert edited.arguments == {"to_usd": 3}
    assert [vote.user_id for vote in edited.votes] == [2]
    # Whoever does not name them may not have seen the edit.
    with pytest.raises(ArgumentsEdited) as refused:
        await desk.decide(asked, person(1))
    assert refused.value.details["arguments"] == {"to_usd": 3}
    ended = await desk.decide(asked, person(1), arguments={"to_usd": 3})
    assert counted(ended) == (APPROVED, 2)
    assert [vote.user_id for vote in ended.votes] == [2, 1]
    assert [str(one.to_usd) for one in desk.grants.granted_to] == ["3"]


async def test_the_recorded_arguments_sent_along_are_no_edit(desk: Desk):
    asked = await budget(desk, required_approvals=2)
    recorded = asked.details["to_usd"]
    await desk.decide(asked, person(1))
    ended = await desk.decide(asked, person(2), arguments={"to_usd": recorded})
    assert counted(ended) == (APPROVED, 2)
    assert ended.arguments is None


async def test_a_bad_edit_counts_for_nothing(desk: Desk):
    asked = await budget(desk, required_approvals=2)
    with pytest.raises(Invalid):
        await desk.decide(asked, person(1), arguments={"to_usd": -1})
    assert counted(await desk.read(asked)) == (PENDING, 0)
    assert (await desk.read(asked)).votes == []


async def test_a_yes_of_nobody_is_enough_where_one_is(desk: Desk):
    ended = await desk.decide(await desk.ask(), GATEWAY_PRINCIPAL)
    assert counted(ended) == (APPROVED, 1)
    assert ended.votes == []
    assert (ended.decided_by, ended.decided_by_key) == (None, "gateway")


async def test_one_whose_time_is_over_takes_no_more_votes(desk: Desk):
    asked = await desk.ask(required_approvals=2)
    await desk.decide(asked, person(1))
    await desk.shift(asked, expires_at=0)
    with pytest.raises(ApprovalNotPending):
        await desk.decide(asked, person(2))
    assert counted(await desk.read(asked)) == (ApprovalStatus.EXPIRED, 1)


async def test_critical_ones_need_as_many_as_the_settings_say(desk: Desk):
    desk.security.set(required_approvals=2)
    assert (await desk.ask(risk_level="high")).required_approvals == 1
    asked = await desk.ask(risk_level="critical", required_approvals=1)
    assert asked.required_approvals == 2
    assert (await desk.ask(risk_level="critical", required_approvals=3)).required_approvals == 3
    assert counted(await desk.decide(asked, person(ADMINS[0]))) == (PENDING, 1)
    assert counted(await desk.decide(asked, person(ADMINS[1]))) == (APPROVED, 2)


async def demote(desk: Desk, user_id: int, **values: object) -> None:
    async with desk.db.transaction() as tx:
        await tx.conn.execute(update(UserRow).where(UserRow.id == user_id).values(**values))


@pytest.mark.parametrize("fall", [{"role": "operator"}, {"is_active": False}])
async def test_the_yes_of_an_admin_that_was_counts_no_more(desk: Desk, fall: dict[str, object]):
    asked = await desk.ask(risk_level="critical", required_approvals=2)
    await desk.decide(asked, person(ADMINS[0]))
    await demote(desk, ADMINS[0], **fall)
    assert counted(await desk.decide(asked, person(ADMINS[1]))) == (PENDING, 1)
    assert counted(await desk.decide(asked, person(ADMINS[2]))) == (APPROVED, 2)

"""A second group is asked after a time: once, and never of what is decided or over."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from conclave.approvals.errors import MayNotDecide
from schema.domain.approvals import Approval, ApprovalRequest, ApprovalStatus, ApproverRole
from schema.domain.notifications import Severity
from tests.core.approvals.conftest import ADMINS, NO, YES, Desk, counted, person

PENDING = ApprovalStatus.PENDING
ADMIN = ADMINS[0]


async def escalating(desk: Desk, **fields: object) -> Approval:
    """Ask two operators, and the admins after a minute; the minute is over."""
    group: dict[str, object] = {"approvers": [1, 2], "escalate_to": "admins"}
    asked = await desk.ask(**{**group, "escalate_after_seconds": 60, **fields})
    assert asked.escalates_at is not None
    life = asked.escalates_at - asked.requested_at
    assert timedelta(seconds=59) < life < timedelta(seconds=61)
    await desk.shift(asked, escalates_at=0)
    return asked


async def escalations(desk: Desk, asked: Approval) -> int:
    return [type_ for type_, _ in await desk.events(asked)].count("approval.escalated")


async def test_the_second_group_is_asked_once(desk: Desk):
    asked = await escalating(desk)
    seen = await asyncio.gather(*(desk.service.look(asked.id) for _ in range(5)))
    instants = {one.escalated_at for one in seen}
    assert len(instants) == 1
    assert None not in instants
    assert await escalations(desk, asked) == 1
    [_, told] = desk.notifier.told
    assert (told.event_type, told.user_ids) == ("approval.escalated", list(ADMINS))
    assert told.severity is Severity.WARNING
    assert told.metadata["approval_id"] == asked.id
    await desk.service.look(asked.id)
    assert await escalations(desk, asked) == 1


async def test_before_the_time_nothing_escalates(desk: Desk):
    asked = await desk.ask(approvers=[1], escalate_after_seconds=60, escalate_to="admins")
    assert (await desk.service.look(asked.id)).escalated_at is None
    with pytest.raises(MayNotDecide):
        await desk.decide(asked, person(ADMIN))


async def test_after_it_both_groups_decide_and_votes_stay(desk: Desk):
    asked = await escalating(desk, required_approvals=2)
    await desk.shift(asked, escalates_at=60)
    await desk.decide(asked, person(1))
    await desk.shift(asked, escalates_at=0)
    await desk.service.look(asked.id)
    with pytest.raises(MayNotDecide):
        await desk.decide(asked, person(3))
    ended = await desk.decide(asked, person(ADMIN))
    assert counted(ended) == (ApprovalStatus.APPROVED, 2)
    assert {vote.user_id for vote in ended.votes} == {1, ADMIN}


async def test_a_decider_of_the_second_group_need_not_wait_for_the_workflow(desk: Desk):
    asked = await escalating(desk)
    ended = await desk.decide(asked, person(ADMIN))
    assert ended.status is ApprovalStatus.APPROVED
    assert ended.escalated_at is not None


async def test_whoever_reads_it_finds_it_escalated(desk: Desk):
    asked = await escalating(desk)
    assert (await desk.read(asked)).escalated_at is not None
    assert await escalations(desk, asked) == 1


@pytest.mark.parametrize("command", [YES, NO])
async def test_nothing_escalates_after_the_decision(desk: Desk, command: object):
    asked = await escalating(desk)
    await desk.shift(asked, escalates_at=60)
    await desk.decide(asked, person(1), approve=command is YES)
    await desk.shift(asked, escalates_at=0)
    assert (await desk.service.look(asked.id)).escalated_at is None
    assert await escalations(desk, asked) == 0
    assert len(desk.notifier.told) == 1


async def test_an_expiry_wins(desk: Desk):
    asked = await escalating(desk)
    await desk.shift(asked, expires_at=0)
    ended = await desk.service.look(asked.id)
    assert (ended.status, ended.escalated_at) == (ApprovalStatus.EXPIRED, None)
    assert await escalations(desk, asked) == 0


async def test_a_decision_and_an_escalation_at_once_both_stand(desk: Desk):
    for _ in range(5):
        asked = await escalating(desk)
        await asyncio.gather(desk.service.look(asked.id), desk.decide(asked, person(1)))
        ended = await desk.read(asked)
        assert ended.status is ApprovalStatus.APPROVED
        assert await escalations(desk, asked) == (ended.escalated_at is not None)


async def test_the_settings_say_after_what_time_and_to_whom(desk: Desk):
    assert (await desk.ask()).escalation is None
    desk.security.set(escalate_after_seconds=120, escalate_to=[2])
    asked = await desk.ask()
    assert asked.escalation is not None
    assert asked.escalation.to == [2]
    assert (asked.escalation.at - asked.requested_at).total_seconds() == pytest.approx(120, abs=1)  # pyright: ignore[reportUnknownMemberType]  # of pytest
    own = await desk.ask(escalate_after_seconds=60, escalate_to=ApproverRole.OPERATORS)
    assert own.escalation is not None
    assert own.escalation.to is ApproverRole.OPERATORS


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, None),
        ({"risk_level": "critical"}, None),
        ({"approvers": "admins"}, list(ADMINS)),
        ({"approvers": [2, 1]}, [1, 2]),
        ({"owner": "user:4"}, [4, *ADMINS]),
        ({"owner": "gateway"}, list(ADMINS)),
        ({"owner": "user:4", "approvers": "admins"}, list(ADMINS)),
    ],
)
async def test_who_is_told_that_something_waits(
    desk: Desk, fields: dict[str, object], told: list[int] | None
):
    async with desk.db.transaction() as tx:
        request = ApprovalRequest.model_validate({"type": "x", "action": "deploy", **fields})
        await desk.service.request(tx, request)
    [one] = desk.notifier.told
    assert (one.user_ids, one.event_type) == (told, "approval.requested")
    assert one.title == "Waits for an approval: deploy"

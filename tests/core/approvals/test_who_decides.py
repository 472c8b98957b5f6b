"""Every kind of principal against critical ones, quorum, four eyes and groups."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from conclave.approvals.commands import ApprovalFilter
from conclave.approvals.errors import ApprovalNotFound, MayNotDecide
from conclave.errors import ConclaveError, Invalid, Missing
from schema.domain.approvals import ApprovalRequest, ApprovalStatus
from schema.domain.identity import (
    GATEWAY_PRINCIPAL,
    LOCAL_PRINCIPAL,
    SYSTEM_PRINCIPAL,
    TEMPORAL_PRINCIPAL,
    Principal,
    PrincipalKind,
)
from schema.tables.inbox import InboxRow
from tests.core.approvals.conftest import ADMINS, VIEWER, Desk, key_of, person

OPERATOR, ADMIN = 1, ADMINS[0]
WHO: dict[str, Principal] = {
    "viewer": person(VIEWER),
    "operator": person(OPERATOR),
    "admin": person(ADMIN),
    "operator's key": key_of(OPERATOR),
    "admin's key": key_of(ADMIN),
    "gateway": GATEWAY_PRINCIPAL,
    "local": LOCAL_PRINCIPAL,
    "signal": TEMPORAL_PRINCIPAL,
    "system": SYSTEM_PRINCIPAL,
    "worker node": Principal(kind=PrincipalKind.WORKER_NODE, id=3),
}
PEOPLE = {"operator", "admin"}
ADMINISTRATORS = {"admin", "admin's key", "gateway", "local", "system"}
WRITERS = ADMINISTRATORS | {"operator", "operator's key", "signal"}
CASES: list[tuple[str, dict[str, object], set[str]]] = [
    ("plain", {}, WRITERS),
    ("critical", {"risk_level": "critical"}, ADMINISTRATORS),
    ("quorum", {"required_approvals": 2}, PEOPLE),
    ("critical quorum", {"risk_level": "critical", "required_approvals": 2}, {"admin"}),
    ("four eyes", {"four_eyes": True}, PEOPLE),
    ("four eyes, asked by the operator", {"four_eyes": True, "requested_by": 1}, {"admin"}),
    ("four eyes, asked by the admin", {"four_eyes": True, "requested_by": 13}, {"operator"}),
    ("critical four eyes", {"four_eyes": True, "risk_level": "critical"}, {"admin"}),
    ("for admins", {"approvers": "admins"}, ADMINISTRATORS),
    ("for the operator by name", {"approvers": [1, 2]}, {"operator"}),
    ("for the admin by name", {"approvers": [13]}, {"admin"}),
    ("for others by name", {"approvers": [2, 3]}, set()),
]


@pytest.mark.parametrize("approve", [True, False])
@pytest.mark.parametrize(("fields", "allowed"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
async def test_who_may_say_yes_or_no(
    desk: Desk, fields: dict[str, object], allowed: set[str], approve: bool
):
    took: set[str] = set()
    for name, principal in WHO.items():
        asked = await desk.ask(**fields)
        try:
            await desk.decide(asked, principal, approve=approve)
            took.add(name)
        except MayNotDecide:
            now = await desk.read(asked)
            assert (now.status, now.votes) == (ApprovalStatus.PENDING, [])
    assert took == allowed


async def test_four_eyes_as_a_setting_holds_for_all(desk: Desk):
    asked = await desk.ask(requested_by=OPERATOR)
    desk.security.set(four_eyes=True)
    for name in ("operator", "operator's key", "admin's key", "gateway", "local", "signal"):
        with pytest.raises(MayNotDecide, match="Four eyes"):
            await desk.decide(asked, WHO[name])
    assert (await desk.decide(asked, person(2))).status is ApprovalStatus.APPROVED


async def test_who_made_the_task_has_asked_too(desk: Desk):
    parent, _ = await desk.task(assigned_by=2)
    task_id, conversation_id = await desk.task(assigned_by=OPERATOR, parent_task_id=parent)
    by_hand = await desk.ask(task_id=task_id, four_eyes=True, requested_by=3)
    async with desk.db.transaction() as tx:
        by_agent = await desk.service.request(
            tx,
            ApprovalRequest(type="x", action="x", conversation_id=conversation_id, four_eyes=True),
        )
    assert by_agent.task_id == task_id
    for user_id in (OPERATOR, 2):
        for asked in (by_hand, by_agent):
            with pytest.raises(MayNotDecide):
                await desk.decide(asked, person(user_id))
    with pytest.raises(MayNotDecide):
        await desk.decide(by_hand, person(3))
    assert (await desk.decide(by_agent, person(3))).status is ApprovalStatus.APPROVED
    assert (await desk.decide(by_hand, person(4))).status is ApprovalStatus.APPROVED


async def test_whose_conversation_it_is_and_who_speaks_in_it_have_asked_too(desk: Desk):
    _, conversation_id = await desk.task(owner="user:1")
    async with desk.db.transaction() as tx:
        for status, user_id in (("claimed", 2), ("done", 3)):
            await tx.conn.execute(
                insert(InboxRow).values(
                    target=f"conversation-{conversation_id}",
                    principal=f"user:{user_id}",
                    idempotency_key=status,
                    request_hash="x",
                    status=status,
                )
            )
        asked = await desk.service.request(
            tx,
            ApprovalRequest(type="x", action="x", conversation_id=conversation_id, four_eyes=True),
        )
    for user_id in (1, 2):
        with pytest.raises(MayNotDecide):
            await desk.decide(asked, person(user_id))
    assert (await desk.decide(asked, person(3))).status is ApprovalStatus.APPROVED


async def test_the_owner_of_a_private_chat_has_asked_too(desk: Desk):
    async with desk.db.transaction() as tx:
        asked = await desk.service.request(
            tx, ApprovalRequest(type="x", action="x", owner="user:1", four_eyes=True)
        )
    with pytest.raises(MayNotDecide):
        await desk.decide(asked, person(1))
    with pytest.raises(ApprovalNotFound):
        await desk.decide(asked, person(2))
    assert (await desk.decide(asked, person(ADMIN))).status is ApprovalStatus.APPROVED


async def test_whoever_is_asked_by_name_sees_what_is_private(desk: Desk):
    async with desk.db.transaction() as tx:
        asked = await desk.service.request(
            tx, ApprovalRequest(type="x", action="x", owner="user:1", approvers=[2])
        )

    async def listed(principal: Principal) -> int:
        return (await desk.service.list(ApprovalFilter(), principal, 10, 0))[1]

    assert [await listed(person(user_id)) for user_id in (1, 2, 3)] == [1, 1, 0]
    assert await listed(key_of(2)) == 0
    with pytest.raises(ApprovalNotFound):
        await desk.service.get(asked.id, key_of(2))
    assert (await desk.decide(asked, person(2))).status is ApprovalStatus.APPROVED


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"approvers": [1, 99]}, Missing, "approvers"),
        ({"approvers": [VIEWER]}, Invalid, "approvers"),
        ({"approvers": [1], "risk_level": "critical"}, Invalid, "approvers"),
        ({"approvers": [1, 2], "required_approvals": 3}, Invalid, "required_approvals"),
        ({"escalate_to": [99], "escalate_after_seconds": 60}, Missing, "escalate_to"),
        ({"escalate_to": [VIEWER], "escalate_after_seconds": 60}, Invalid, "escalate_to"),
        ({"escalate_to": "admins"}, Invalid, "escalate_after_seconds"),
    ],
)
async def test_groups_that_could_not_decide_are_refused(
    desk: Desk, fields: dict[str, object], error: type[ConclaveError], field: str
):
    with pytest.raises(error) as refused:
        await desk.ask(**fields)
    told = refused.value
    assert (told.field if isinstance(told, Invalid) else told.details["field"]) == field
    assert (await desk.service.list(ApprovalFilter(), person(ADMIN), 10, 0))[1] == 0

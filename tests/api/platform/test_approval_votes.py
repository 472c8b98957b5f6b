"""/api/v1/approvals where several have to agree, and where a second group is asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from typing import Any

import httpx
import pytest
from sqlalchemy import func, insert, select, update

from conclave.agents.commands import BusyPolicy, CreateAgent
from conclave.container import Core
from schema.domain.approvals import ApprovalRequest
from schema.domain.providers import ProviderName
from schema.domain.tasks import NewTask
from schema.tables.conversations import ConversationRow
from schema.tables.identity import UserRow
from schema.tables.tasks import TaskRow
from schema.tables.tools import ApprovalRow
from tests.api.platform.test_approvals import call, made
from tests.fakes.callers import CALLERS, bearer
from tests.fakes.engine import FakeEngine
from tests.waiting import until

SECURITY = "/api/v1/security"


@pytest.fixture
async def people(outside: httpx.AsyncClient, core: Core) -> None:
    """The callers as users of the record: 11 to 15, as `CALLERS` has them."""
    async with core.db.transaction() as tx:
        for user_id in range(1, 16):
            names = [n for n, who in CALLERS.items() if who.user_id == user_id]
            role = CALLERS[names[0]].role if names else "viewer"
            await tx.conn.execute(
                insert(UserRow).values(
                    email=f"{user_id}@x.example", full_name="x", role=role, password_hash="x"
                )
            )


async def said(client: httpx.AsyncClient, asked: Any, verb: str, caller: str, **body: Any) -> Any:
    answer = await call(client, "POST", f"/{asked['id']}/{verb}", caller, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_two_of_three_agree(outside: httpx.AsyncClient, people: None):
    asked = await made(outside, required_approvals=2, approvers=["12", 13, 14], four_eyes=True)
    assert (asked["required_approvals"], asked["approvals_count"]) == (2, 0)
    assert (asked["approvers"], asked["votes"], asked["four_eyes"]) == ([12, 13, 14], [], True)
    first = await said(outside, asked, "approve", "operator", note="fine")
    assert (first["status"], first["approvals_count"], first["decided_at"]) == ("pending", 1, None)
    [vote] = first["votes"]
    assert vote == {"user_id": 12, "approve": True, "note": "fine", "at": vote["at"]}
    assert vote["at"].endswith("Z")
    again = await call(outside, "POST", f"/{asked['id']}/approve")
    assert again.status_code == 409
    assert "one vote a person" in again.json()["detail"]
    assert (await call(outside, "GET", f"/{asked['id']}")).json() == first
    assert (await call(outside, "GET")).json() == [first]
    last = await said(outside, asked, "approve", "admin")
    assert (last["status"], last["approvals_count"], last["decided_by"]) == ("approved", 2, 13)
    assert [vote["user_id"] for vote in last["votes"]] == [12, 13]


async def test_of_all_callers_only_people_count(outside: httpx.AsyncClient, people: None):
    async def refused(**fields: Any) -> set[str]:
        found: set[str] = set()
        for caller in CALLERS:
            asked = await made(outside, **fields)
            answer = await call(outside, "POST", f"/{asked['id']}/approve", caller)
            assert answer.status_code in {200, 403}, answer.text
            if answer.status_code == 403:
                found.add(caller)
        return found

    never = {"viewer", "limited admin", "reading key", "workers key", "worker node"}
    nobody = {"gateway", "writing key", "admin key"}
    operators = {"operator", "other operator"}
    assert await refused() == never
    assert await refused(required_approvals=2) == never | nobody
    assert await refused(four_eyes=True) == never | nobody
    assert await refused(risk_level="critical") == never | operators | {"writing key"}
    critical = await refused(risk_level="critical", required_approvals=2)
    assert critical == never | nobody | operators
    assert await refused(approvers=[12]) == never | nobody | {"other operator", "admin"}


async def test_whoever_asked_does_not_decide_under_four_eyes(outside: httpx.AsyncClient):
    asked = await made(outside, "operator", four_eyes=True)
    for verb in ("approve", "reject"):
        answer = await call(outside, "POST", f"/{asked['id']}/{verb}", "operator")
        assert (answer.status_code, "Four eyes" in answer.json()["detail"]) == (403, True)
    by_key = await made(outside, "writing key", four_eyes=True)
    assert (await call(outside, "POST", f"/{by_key['id']}/approve", "admin")).status_code == 403
    await said(outside, asked, "approve", "other operator")
    await said(outside, by_key, "approve", "operator")


async def test_last_votes_at_once(outside: httpx.AsyncClient, people: None):
    asked = await made(outside, required_approvals=2)
    await said(outside, asked, "approve", "operator")
    answers = await asyncio.gather(
        *(
            call(outside, "POST", f"/{asked['id']}/approve", caller)
            for caller in ["admin", "other operator"] * 3
        )
    )
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 5}
    ended = (await call(outside, "GET", f"/{asked['id']}")).json()
    assert (ended["status"], ended["approvals_count"], len(ended["votes"])) == ("approved", 2, 2)


async def test_a_no_ends_it(outside: httpx.AsyncClient):
    asked = await made(outside, required_approvals=5)
    await said(outside, asked, "approve", "operator")
    ended = await said(outside, asked, "reject", "other operator", reason="no")
    assert (ended["status"], ended["approvals_count"]) == ("rejected", 1)
    assert [vote["approve"] for vote in ended["votes"]] == [True, False]


async def test_an_edit_starts_the_count_again(outside: httpx.AsyncClient, core: Core):
    async with core.db.transaction() as tx:
        conversation = await tx.conn.scalar(
            insert(ConversationRow)
            .values(
                kind="task", owner="system", topic="t", status="active", agent_ids=[],
                turn_strategy="round_robin", auto_run=False, max_turns=5, turn_timeout=60,
            )
            .returning(ConversationRow.id)
        )  # fmt: skip
        added = insert(TaskRow).values(title="t", conversation_id=conversation, meta={})
        task_id = await tx.conn.scalar(added.returning(TaskRow.id))
    asked = await made(
        outside, type="budget_increase", details={"task_id": task_id, "to_usd": 5},
        required_approvals=2,
    )  # fmt: skip
    assert asked["task_id"] == task_id
    assert [one["id"] for one in (await call(outside, "GET", f"?task_id={task_id}")).json()] == [
        asked["id"]
    ]
    await said(outside, asked, "approve", "operator")
    edited = await said(outside, asked, "approve", "admin", arguments={"to_usd": 3})
    assert (edited["approvals_count"], edited["arguments"]) == (1, {"to_usd": 3})
    unseen = await call(outside, "POST", f"/{asked['id']}/approve", "operator")
    assert (unseen.status_code, unseen.json()["details"]["arguments"]) == (409, {"to_usd": 3})
    ended = await said(outside, asked, "approve", "operator", arguments={"to_usd": 3})
    assert (ended["status"], ended["approvals_count"]) == ("approved", 2)


async def test_an_approved_increase_raises_the_budget(outside: httpx.AsyncClient, core: Core):
    task = await core.tasks.create(NewTask(title="t", budget_usd=Decimal(1)))
    details = {"task_id": task.id, "to_usd": 5}
    asked = await made(outside, type="budget_increase", details=details)
    await said(outside, asked, "reject", "operator")
    assert (await core.tasks.get(task.id)).budget_usd == 1
    asked = await made(outside, type="budget_increase", details=details)
    await said(outside, asked, "approve", "operator", arguments={"to_usd": 3})
    assert (await core.tasks.get(task.id)).budget_usd == 3


async def test_a_second_group_is_asked(outside: httpx.AsyncClient, core: Core, people: None):
    asked = await made(outside, approvers=[12], escalate_after_seconds=60, escalate_to=[14])
    assert asked["escalated_at"] is None
    assert asked["escalation"] == {"to": [14], "at": asked["escalation"]["at"]}
    early = await call(outside, "POST", f"/{asked['id']}/approve", "other operator")
    assert early.status_code == 403
    async with core.db.transaction() as tx:
        await tx.conn.execute(update(ApprovalRow).values(escalates_at=func.clock_timestamp()))
    assert (await core.approvals.look(asked["id"])).escalated_at is not None
    told = (await call(outside, "GET", f"/{asked['id']}")).json()
    assert told["escalated_at"].endswith("Z")
    await said(outside, asked, "approve", "other operator")


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"required_approvals": 0}, 422, None), ({"required_approvals": 11}, 422, None),
        ({"approvers": "viewers"}, 422, None), ({"approvers": []}, 422, None),
        ({"approvers": None}, 422, None), ({"approvers": [0]}, 422, None),
        ({"approvers": {"role": "admins"}}, 422, None), ({"approvers": [99]}, 404, "approvers"),
        ({"approvers": [11]}, 422, "approvers"), ({"four_eyes": "maybe"}, 422, None),
        ({"approvers": [12], "risk_level": "critical"}, 422, "approvers"),
        ({"approvers": [12, "12"], "required_approvals": 2}, 422, "required_approvals"),
        ({"escalate_after_seconds": 59}, 422, None),
        ({"escalate_after_seconds": 604_801}, 422, None),
        ({"escalate_to": "admins"}, 422, "escalate_after_seconds"),
        ({"escalate_to": [99], "escalate_after_seconds": 60}, 404, "escalate_to"),
        ({"type": "budget_increase"}, 422, "details.task_id"),
        ({"type": "budget_increase", "details": {"task_id": 9, "to_usd": 1}}, 404, "task_id"),
    ],
)  # fmt: skip
async def test_requests_that_do_not_fit_are_not_stored(
    outside: httpx.AsyncClient, people: None, fields: Any, status: int, field: str | None
):
    answer = await call(outside, "POST", "", **{"action": "deploy", **fields})
    assert answer.status_code == status, answer.text
    if status == 404:
        assert answer.json()["details"]["field"] == field
    elif field is not None:
        assert field in answer.text
    assert (await call(outside, "GET", "?status=all")).json() == []


async def test_the_settings_hold_for_critical_ones_and_for_escalation(outside: httpx.AsyncClient):
    change = {"approvals": {"required_approvals": 2, "escalate_after_seconds": 600}}
    answer = await outside.put(SECURITY, json=change, headers=bearer("admin"))
    assert answer.status_code == 200, answer.text
    critical = await made(outside, risk_level="critical")
    assert (critical["required_approvals"], critical["escalation"]["to"]) == (2, "admins")
    assert (await made(outside))["required_approvals"] == 1


async def test_an_agent_that_is_deleted_takes_its_approvals_along(
    outside: httpx.AsyncClient, core: Core, engine: FakeEngine
):
    agent = await core.agents.create(
        CreateAgent(name="Ada", provider=ProviderName.OPENAI, model="m")
    )
    asked = await made(outside, agent_id=agent.id)
    await core.agents.delete(agent.id, BusyPolicy.REFUSE)
    assert (await call(outside, "GET", f"/{asked['id']}")).json()["status"] == "cancelled"
    await until(lambda: asked["id"] in engine.approvals_woken, what="the wake-up")
    gone = await call(outside, "POST", "", action="x", agent_id=agent.id)
    assert gone.status_code == 404


async def test_a_conversation_that_ends_takes_its_approvals_along(
    outside: httpx.AsyncClient, core: Core
):
    agent = await core.agents.create(
        CreateAgent(name="Ada", provider=ProviderName.OPENAI, model="m")
    )
    owner = CALLERS["operator"]
    session = await core.conversations.open_session(agent.id, None, owner)
    async with core.db.transaction() as tx:
        asked = await core.approvals.request(
            tx,
            ApprovalRequest(
                type="tool_call", action="x", conversation_id=session.id, owner=owner.key
            ),
        )
    await core.conversations.end(session.id, owner)
    assert (await call(outside, "GET", f"/{asked.id}")).json()["status"] == "cancelled"
    async with core.db.transaction() as tx:
        final = await tx.conn.scalar(
            select(ConversationRow.final).where(ConversationRow.id == session.id)
        )
    assert final

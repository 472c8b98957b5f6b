"""/api/v1/approvals."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import func, update

from conclave.agents.commands import CreateAgent
from conclave.container import Core
from schema.domain.approvals import ApprovalRequest
from schema.domain.providers import ProviderName
from schema.tables.tools import ApprovalRow
from tests.fakes.callers import CALLERS, bearer
from tests.fakes.engine import FakeEngine
from tests.waiting import until

PATH = "/api/v1/approvals"


async def call(
    client: httpx.AsyncClient, method: str, path: str = "", caller: str = "operator", **body: Any
) -> httpx.Response:
    return await client.request(method, PATH + path, json=body or None, headers=bearer(caller))


async def made(client: httpx.AsyncClient, caller: str = "viewer", **fields: Any) -> Any:
    answer = await call(client, "POST", "", caller, **{"action": "deploy", **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_anybody_may_ask(outside: httpx.AsyncClient, core: Core, engine: FakeEngine):
    agent = await core.agents.create(
        CreateAgent(name="Ada", provider=ProviderName.OPENAI, model="m")
    )
    asked = await made(
        outside, description="to production", agent_id=str(agent.id), details={"where": "eu"},
        risk_level="high", expires_in_seconds=60,
    )  # fmt: skip
    assert asked.keys() == {
        "id", "type", "action", "description", "risk_level", "status", "task_id", "agent_id",
        "agent_name", "details", "requested_by", "requested_by_type", "requested_at",
        "expires_at", "decided_by", "decided_at", "decision_note", "rejection_reason",
        "created_at", "updated_at", "arguments", "approvers", "required_approvals",
        "approvals_count", "votes", "four_eyes", "escalation", "escalated_at",
    }  # fmt: skip
    assert (asked["type"], asked["status"], asked["agent_name"]) == ("custom", "pending", "Ada")
    assert (asked["requested_by"], asked["requested_by_type"]) == (11, "user")
    assert asked["expires_at"].endswith("Z")
    life = datetime.fromisoformat(asked["expires_at"]) - datetime.fromisoformat(asked["created_at"])
    assert timedelta(seconds=59) < life <= timedelta(seconds=61)
    assert (await call(outside, "GET", f"/{asked['id']}", "viewer")).json() == asked
    await until(lambda: engine.approvals_started == [asked["id"]], what="its workflow")
    titled = await call(outside, "POST", "", title="also called so")
    assert titled.json()["action"] == "also called so"


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"action": ""}, 422, None), ({"action": "x" * 501}, 422, None),
        ({"risk_level": "wild"}, 422, None), ({"expires_in_seconds": 59}, 422, None),
        ({"expires_in_seconds": 604_801}, 422, None), ({"details": []}, 422, None),
        ({"agent_id": 99}, 404, "agent_id"), ({"task_id": 99}, 404, "task_id"),
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_not_stored(
    outside: httpx.AsyncClient, fields: Any, status: int, field: str | None
):
    answer = await call(outside, "POST", "", **{"action": "deploy", **fields})
    assert answer.status_code == status
    if field is not None:
        assert answer.json()["details"]["field"] == field
    assert (await call(outside, "GET")).json() == []


async def test_the_list_shows_what_is_pending_unless_asked_for_more(outside: httpx.AsyncClient):
    ids = [(await made(outside, risk_level=risk))["id"] for risk in ("low", "high", "low")]
    assert (await call(outside, "POST", f"/{ids[0]}/reject")).status_code == 200

    async def listed(query: str) -> list[int]:
        return [one["id"] for one in (await call(outside, "GET", query)).json()]

    assert await listed("") == [ids[2], ids[1]]
    assert await listed("?status=all") == ids[::-1]
    assert await listed("?status=rejected") == [ids[0]]
    assert await listed("?status=all&risk_level=low") == [ids[2], ids[0]]
    assert await listed("?status=all&limit=1&offset=1") == [ids[1]]
    assert await listed("?agent_id=5") == []
    answer = await call(outside, "GET", "?status=all&limit=1")
    assert answer.headers["x-total-count"] == "3"
    for query in ("?status=x", "?risk_level=x", "?limit=0", "?agent_id=x"):
        assert (await call(outside, "GET", query)).status_code == 422, query


async def test_a_decision_is_final(outside: httpx.AsyncClient):
    first, second = await made(outside), await made(outside)
    yes = await call(outside, "POST", f"/{first['id']}/approve", note="go")
    assert yes.status_code == 200
    told = yes.json()
    assert (told["status"], told["decided_by"], told["decision_note"]) == ("approved", 12, "go")
    assert told["decided_at"]
    no = (await call(outside, "POST", f"/{second['id']}/reject", reason="not now")).json()
    assert (no["status"], no["rejection_reason"]) == ("rejected", "not now")
    again = await call(outside, "POST", f"/{first['id']}/reject")
    assert again.status_code == 409
    assert again.json()["details"]["status"] == "approved"
    assert (await call(outside, "POST", "/999/approve")).status_code == 404


async def test_of_two_deciders_one_gets_409(outside: httpx.AsyncClient):
    asked = await made(outside)
    answers = await asyncio.gather(
        *(call(outside, "POST", f"/{asked['id']}/{verb}") for verb in ["approve", "reject"] * 3)
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5


async def test_who_may_decide(outside: httpx.AsyncClient):
    asked = await made(outside)
    for caller in ("viewer", "reading key"):
        assert (await call(outside, "POST", f"/{asked['id']}/approve", caller)).status_code == 403
    critical = await made(outside, risk_level="critical")
    assert (await call(outside, "POST", f"/{critical['id']}/approve")).status_code == 403
    answer = await call(outside, "POST", f"/{critical['id']}/approve", "admin")
    assert answer.status_code == 200


async def test_one_whose_time_is_over_is_expired(outside: httpx.AsyncClient, core: Core):
    asked = await made(outside)
    async with core.db.transaction() as tx:
        await tx.conn.execute(update(ApprovalRow).values(expires_at=func.clock_timestamp()))
    late = await call(outside, "POST", f"/{asked['id']}/approve")
    assert late.status_code == 409
    assert late.json()["details"]["status"] == "expired"
    assert (await call(outside, "GET", f"/{asked['id']}")).json()["status"] == "expired"
    assert (await call(outside, "GET")).json() == []


async def test_edited_arguments_need_a_tool(outside: httpx.AsyncClient):
    asked = await made(outside)
    answer = await call(outside, "POST", f"/{asked['id']}/approve", arguments={"x": 1})
    assert answer.status_code == 422
    assert (await call(outside, "GET", f"/{asked['id']}")).json()["status"] == "pending"


async def test_those_of_another_users_chat_are_not_there(outside: httpx.AsyncClient, core: Core):
    owner = CALLERS["operator"].key
    async with core.db.transaction() as tx:
        private = await core.approvals.request(
            tx, ApprovalRequest(type="tool_call", action="execute_tool:x", owner=owner)
        )
    path = f"/{private.id}"
    assert (await call(outside, "GET", path, "other operator")).status_code == 404
    assert (await call(outside, "POST", f"{path}/approve", "other operator")).status_code == 404
    assert (await call(outside, "GET", "", "other operator")).json() == []
    assert [one["id"] for one in (await call(outside, "GET", "", "admin")).json()] == [private.id]
    assert (await call(outside, "POST", f"{path}/approve")).status_code == 200

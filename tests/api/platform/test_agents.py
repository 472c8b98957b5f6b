"""/api/v1/agents: what is stored, shown in other dialects too, and refused."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from sqlalchemy import insert

from conclave.container import Core
from conclave.db import Database
from schema.tables.model_calls import ModelCallRow
from tests.api.gathering.test_bad_input import stored_rows
from tests.api.platform.agents import PATH, Json, conversation, made, moved, patched, shown
from tests.api.platform.conftest import admin_of_another
from tests.fakes.callers import bearer
from tests.fakes.engine import FakeEngine

# Creating


async def test_a_name_is_enough(client: httpx.AsyncClient):
    agent = await made(client)
    assert agent == {
        "id": agent["id"], "slug": "ada", "name": "Ada", "description": None, "role": "general",
        "status": "idle", "is_active": True, "llm_provider": agent["llm_provider"],
        "llm_model": agent["llm_model"], "system_prompt": None, "temperature": 0.7,
        "max_tokens": 4096, "enabled_tools": {}, "max_concurrent_tasks": 3, "worker_id": None,
        "email": None, "tags": [], "autonomy_level": "cautious", "tool_blacklist": [],
        "risk_rules": {
            "max_file_delete_mb": 100.0, "require_approval_for": [], "block_external_api": False,
        },
        "fallback_models": [], "daily_budget_usd": 0.0, "max_tokens_per_task": 0,
        "memory_limit_mb": 0, "tasks_completed": 0, "tasks_failed": 0, "success_rate": 0.0,
        "average_task_duration_seconds": 0.0, "total_tokens_used": 0, "total_cost_usd": 0.0,
        "last_active_at": None, "created_at": agent["created_at"],
        "updated_at": agent["updated_at"],
    }  # fmt: skip
    assert agent["created_at"].endswith("Z")
    assert await shown(client, agent["id"]) == agent
    assert (await client.get(f"/agents/{agent['id']}")).json()["status"] == "idle"


async def test_everything_that_can_be_said_is_kept(client: httpx.AsyncClient):
    fields: Json = {
        "name": "Sophie",
        "slug": "sophie_2000",
        "description": "writes",
        "role": "writer",
        "llm_provider": "openai",
        "llm_model": "gpt-4o-mini",
        "system_prompt": "Be brief.",
        "enabled_tools": {"read_file": True, "run_command": False},
        "temperature": 0,
        "max_tokens": 100,
        "max_concurrent_tasks": 9,
        "tags": ["a", "b"],
        "autonomy_level": "supervised",
        "tool_blacklist": ["delete_file"],
        "risk_rules": {
            "max_file_delete_mb": 0.5, "require_approval_for": ["http"],
            "block_external_api": True,
        },
        "daily_budget_usd": 1.25,
        "max_tokens_per_task": 1000,
        "memory_limit_mb": 512,
        "fallback_models": [{"provider": "mistral", "model": "mistral-large-latest"}],
    }  # fmt: skip
    agent = await made(client, **fields, id=99, email="x@y.z", tasks_completed=7)
    assert {name: agent[name] for name in fields} == fields
    assert (agent["email"], agent["tasks_completed"]) == (None, 0)
    elsewhere = (await client.get(f"/agents/{agent['id']}")).json()
    assert (elsewhere["provider"], elsewhere["model"]) == ("openai", "gpt-4o-mini")
    assert (elsewhere["name"], elsewhere["role"]) == ("Sophie", "writer")
    assert elsewhere["config"]["temperature"] == 0
    assert elsewhere["config"]["tools"] == ["read_file"]


async def test_an_agent_of_another_dialect_is_the_same(client: httpx.AsyncClient):
    body = {"name": "Sophie", "config": {"tools": ["read_file"], "system_prompt": "Be kind."}}
    other = (await client.post("/agents", json=body)).json()
    agent = await shown(client, other["id"])
    assert (agent["role"], agent["slug"]) == ("general", "sophie")
    assert agent["llm_provider"] == other["provider"]
    assert agent["enabled_tools"] == {"read_file": True}
    assert agent["system_prompt"] == "Be kind."
    await patched(client, other["id"], system_prompt="Be brief.")
    changed = (await client.get(f"/agents/{other['id']}")).json()["config"]
    assert changed["system_prompt"] == "Be brief."
    await client.patch(f"/agents/{other['id']}", json={"config": {"system_prompt": "Be slow."}})
    assert (await shown(client, other["id"]))["system_prompt"] == "Be slow."
    await patched(client, other["id"], system_prompt=None)
    changed = (await client.get(f"/agents/{other['id']}")).json()["config"]
    assert "system_prompt" not in changed
    assert (await shown(client, other["id"]))["system_prompt"] is None


async def test_tools_may_be_named_in_an_array(client: httpx.AsyncClient):
    agent = await made(client, enabled_tools=["read_file", "http"])
    assert agent["enabled_tools"] == {"read_file": True, "http": True}
    changed = await patched(client, agent["id"], enabled_tools={"http": False})
    assert changed["enabled_tools"] == {"http": False}
    assert (await client.get(f"/agents/{agent['id']}")).json()["config"]["tools"] == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": " "}, "name"), ({"name": "x" * 256}, "name"), ({"name": None}, "name"),
        ({"role": "x" * 101}, "role"), ({"role": None}, "role"),
        ({"llm_provider": "acme"}, "llm_provider"), ({"llm_provider": None}, "llm_provider"),
        ({"llm_model": ""}, "llm_model"), ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"), ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1_000_001}, "max_tokens"),
        ({"max_concurrent_tasks": 0}, "max_concurrent_tasks"),
        ({"max_concurrent_tasks": 101}, "max_concurrent_tasks"),
        ({"slug": "9lives"}, "slug"), ({"slug": "Ada"}, "slug"), ({"slug": "a" * 64}, "slug"),
        ({"slug": "ada\n"}, "slug"), ({"slug": None}, "slug"),
        ({"autonomy_level": "wild"}, "autonomy_level"), ({"tags": [""]}, "tags"),
        ({"tool_blacklist": "http"}, "tool_blacklist"), ({"enabled_tools": [7]}, "enabled_tools"),
        ({"enabled_tools": {"http": "perhaps"}}, "enabled_tools"),
        ({"risk_rules": {"max_file_delete_mb": -1}}, "risk_rules"),
        ({"risk_rules": {"block_external_api": None}}, "risk_rules"),
        ({"daily_budget_usd": -1}, "daily_budget_usd"),
        ({"max_tokens_per_task": 2**31}, "max_tokens_per_task"),
        ({"memory_limit_mb": -1}, "memory_limit_mb"),
        ({"fallback_models": [{"provider": "acme", "model": "m"}]}, "fallback_models"),
        ({"system_prompt": "x" * 100_001}, "system_prompt"),
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_refused_by_field(
    client: httpx.AsyncClient, database: Database, fields: Json, field: str
):
    agent = await made(client)
    before = await stored_rows(database)
    answers = [await client.post(PATH, json={"name": "Bob", **fields})]
    if field != "slug":  # a slug never changes: it is ignored
        answers.append(await client.patch(f"{PATH}/{agent['id']}", json=fields))
    for answer in answers:
        assert answer.status_code == 422, answer.text
        assert answer.json()["details"]["errors"][0]["field"].startswith(f"body.{field}")
    assert await stored_rows(database) == before


async def test_there_are_no_workers_yet(client: httpx.AsyncClient):
    refused = await client.post(PATH, json={"name": "Ada", "worker_id": 7})
    assert (refused.status_code, refused.json()["details"]) == (404, {"field": "worker_id"})
    agent = await made(client, worker_id=None)
    refused = await client.patch(f"{PATH}/{agent['id']}", json={"name": "X", "worker_id": "7"})
    assert (refused.status_code, refused.json()["details"]) == (404, {"field": "worker_id"})
    assert await shown(client, agent["id"]) == agent
    assert (await patched(client, agent["id"], worker_id=None))["worker_id"] is None


async def test_a_slug_that_is_asked_for_is_that_or_nothing(client: httpx.AsyncClient):
    await made(client, slug="lead")
    again = await client.post(PATH, json={"name": "Bob", "slug": "lead"})
    assert (again.status_code, again.json()["error_code"]) == (409, "RES_002")
    assert again.json()["details"] == {"field": "slug"}
    assert [(await made(client))["slug"] for _ in range(2)] == ["ada", "ada_2"]
    [first] = [one for one in (await client.get(PATH)).json() if one["slug"] == "lead"]
    assert (await client.delete(f"{PATH}/{first['id']}")).status_code == 204
    assert (await made(client, slug="lead"))["slug"] == "lead"


async def test_of_many_who_want_a_slug_one_gets_it(client: httpx.AsyncClient):
    body = {"name": "Ada", "slug": "lead"}
    answers = await asyncio.gather(*(client.post(PATH, json=body) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 5]
    named = await asyncio.gather(*(made(client) for _ in range(6)))
    assert {agent["slug"] for agent in named} == {"ada", *(f"ada_{n}" for n in range(2, 7))}


async def test_the_model_it_does_not_name_is_the_default_one(
    client: httpx.AsyncClient, core: Core, engine: FakeEngine
):
    settings = core.settings
    async with admin_of_another(settings, engine) as bare:
        agent = await made(bare)
        assert (agent["llm_provider"], agent["llm_model"]) == ("demo", "demo")
        named = await made(bare, llm_provider="mistral")
        assert (named["llm_provider"], named["llm_model"]) == ("mistral", "mistral-large-latest")
        put = await bare.put("/api/v1/settings/llm/default_provider", json={"value": "openai"})
        assert put.status_code == 200
        put = await bare.put("/api/v1/settings/llm/default_model", json={"value": "gpt-9"})
        assert put.status_code == 200
        agent = await made(bare)
        assert (agent["llm_provider"], agent["llm_model"]) == ("openai", "gpt-9")
        assert (await made(bare, llm_model="gpt-4o"))["llm_model"] == "gpt-4o"


async def test_mail_reaches_it_where_mail_is_sent_from(
    client: httpx.AsyncClient, core: Core, engine: FakeEngine
):
    sender = {"smtp_from": "Conclave <team@mail.example.org>"}
    async with admin_of_another(core.settings, engine, **sender) as other:
        agent = await made(other)
        assert agent["email"] == "ada@mail.example.org"
        assert [one["email"] for one in (await other.get(PATH)).json()] == [agent["email"]]


# Reading


async def test_a_list_is_newest_first_and_filtered(client: httpx.AsyncClient, database: Database):
    first = await made(client, role="writer")
    second = await made(client)
    third = (await client.post("/agents", json={"name": "Bob"})).json()
    await moved(client, first["id"], "stop")
    await conversation(database, second["id"], speaking_agent_id=second["id"])

    async def ids(query: str = "") -> list[int]:
        answer = await client.get(f"{PATH}{query}")
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-total-count"].isdigit()
        return [one["id"] for one in answer.json()]

    assert await ids() == [third["id"], second["id"], first["id"]]
    assert await ids("/?limit=1&offset=1") == [second["id"]]
    assert await ids("?status_filter=offline") == [first["id"]]
    assert await ids("?status_filter=busy") == [second["id"]]
    assert await ids("?status_filter=idle") == [third["id"]]
    assert await ids("?role=general") == [third["id"], second["id"]]
    assert await ids("?role=writer&status_filter=idle") == []
    for query in ("?status_filter=active", "?limit=0", "?offset=-1"):
        assert (await client.get(f"{PATH}{query}")).status_code == 422


async def test_an_agent_in_an_active_circle_is_idle_here(client: httpx.AsyncClient):
    agent = await made(client)
    await client.post("/circles", json={"name": "tea", "display_name": "Tea"})
    await client.post("/circles/tea/agents", json={"agent_id": agent["id"]})
    assert (await client.post("/circles/tea/start")).status_code == 200
    assert (await client.get(f"/agents/{agent['id']}")).json()["status"] == "active"
    assert (await shown(client, agent["id"]))["status"] == "idle"
    listed = (await client.get(f"{PATH}?status_filter=idle")).json()
    assert [one["id"] for one in listed] == [agent["id"]]


async def test_what_it_used_is_what_the_ledger_says(client: httpx.AsyncClient, database: Database):
    agent, other = await made(client), await made(client)
    place = await conversation(database, agent["id"])
    async with database.transaction() as tx:
        for number, cost in enumerate((0.25, 0.5), 1):
            await tx.conn.execute(
                insert(ModelCallRow).values(
                    conversation_id=place, execution=1, turn=number, step=1, attempt=1,
                    agent_id=agent["id"], provider="openai", model="m", status="committed",
                    reserved_usd=1, cost_usd=cost, tokens_in=100, tokens_out=10,
                )
            )  # fmt: skip
    used = await shown(client, agent["id"])
    assert (used["total_tokens_used"], used["total_cost_usd"]) == (220, 0.75)
    assert used["last_active_at"].endswith("Z")
    assert (await client.get(PATH)).json() == [await shown(client, other["id"]), used]
    assert (await shown(client, other["id"]))["total_cost_usd"] == 0


# Changing


async def test_a_patch_changes_what_it_says_and_nothing_else(client: httpx.AsyncClient):
    agent = await made(
        client, description="d", system_prompt="s", tags=["a"],
        risk_rules={"require_approval_for": ["http"]}, enabled_tools=["http"],
    )  # fmt: skip
    changed = await patched(
        client, agent["id"], name="Bob", temperature=1, description=None, slug="x",
        risk_rules={"block_external_api": True},
    )  # fmt: skip
    assert changed == agent | {
        "name": "Bob", "temperature": 1.0, "description": None,
        "risk_rules": {
            "max_file_delete_mb": 100.0, "require_approval_for": ["http"],
            "block_external_api": True,
        },
        "updated_at": changed["updated_at"],
    }  # fmt: skip
    assert await shown(client, agent["id"]) == changed
    assert await patched(client, agent["id"]) == changed
    for field in ("tags", "enabled_tools", "is_active", "status", "fallback_models"):
        answer = await client.patch(f"{PATH}/{agent['id']}", json={field: None})
        assert answer.status_code == 422, field


async def test_two_patches_at_once_both_hold(client: httpx.AsyncClient):
    agent = await made(client)
    for _ in range(5):
        await asyncio.gather(
            patched(client, agent["id"], temperature=1.5),
            patched(client, agent["id"], max_tokens=77),
            patched(client, agent["id"], risk_rules={"max_file_delete_mb": 5}),
            patched(client, agent["id"], risk_rules={"block_external_api": True}),
        )
        both = await shown(client, agent["id"])
        assert (both["temperature"], both["max_tokens"]) == (1.5, 77)
        assert both["risk_rules"]["block_external_api"] is True
        assert both["risk_rules"]["max_file_delete_mb"] == 5
        await patched(
            client, agent["id"], temperature=0, max_tokens=1,
            risk_rules={"max_file_delete_mb": 1, "block_external_api": False},
        )  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE", "start", "stop"])
async def test_who_is_not_there_is_404(client: httpx.AsyncClient, method: str):
    gone = await made(client)
    assert (await client.delete(f"{PATH}/{gone['id']}")).status_code == 204
    for agent_id in (gone["id"], 2**63 - 1):
        if method in {"start", "stop"}:
            answer = await client.post(f"{PATH}/{agent_id}/{method}")
        else:
            body = {"name": "x"} if method == "PATCH" else None
            answer = await client.request(method, f"{PATH}/{agent_id}", json=body)
        assert (answer.status_code, answer.json()["error_code"]) == (404, "RES_001")
    assert (await client.get(f"{PATH}/x")).status_code == 422
    assert (await client.get(f"/agents/{gone['id']}")).status_code == 404
    assert (await client.get(PATH)).json() == []


async def test_viewers_look_and_operators_change(outside: httpx.AsyncClient):
    agent = await outside.post(PATH, json={"name": "Ada"}, headers=bearer("operator"))
    assert agent.status_code == 201
    viewer = bearer("viewer")
    assert (await outside.get(PATH, headers=viewer)).json() == [agent.json()]
    assert (await outside.post(PATH, json={"name": "B"}, headers=viewer)).status_code == 403
    stop = f"{PATH}/{agent.json()['id']}/stop"
    assert (await outside.post(stop, headers=viewer)).status_code == 403
    assert (await outside.post(stop)).status_code == 401

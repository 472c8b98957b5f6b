"""/circles: the status machine, the members and the rules."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from schema.tables.events import EventRow
from tests.api.gathering.test_agents import make

NEXT = {
    "created": {"start": "active", "archive": "archived"},
    "active": {"pause": "paused", "archive": "archived"},
    "paused": {"resume": "active", "archive": "archived"},
    "archived": {},
}
WAYS = {"created": [], "active": ["start"], "paused": ["start", "pause"], "archived": ["archive"]}


async def make_circle(client: Any, name: str = "dev-team", **more: Any) -> Any:
    answer = await client.post("/circles", json={"name": name, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_circle_with_only_a_name_gets_the_default_rules(client):
    made = await make_circle(client)
    assert made["status"] == "created"
    assert made["display_name"] == "dev-team"
    assert made["agent_count"] == 0
    assert made["config"] == {
        "max_agents": 10,
        "conversation_mode": "round_robin",
        "moderator_agent_id": None,
        "turn_timeout": 30,
        "max_turns_per_conversation": 50,
        "memory_scope": "circle",
        "allow_tools": True,
    }
    assert (await client.get("/circles/dev-team")).json() == made
    assert (await client.get("/circles")).json() == [made]


@pytest.mark.parametrize("status", NEXT)
@pytest.mark.parametrize("action", ["start", "pause", "resume", "archive"])
async def test_the_status_machine(client, status, action):
    await make_circle(client)
    for step in WAYS[status]:
        assert (await client.post(f"/circles/dev-team/{step}")).status_code == 200
    answer = await client.post(f"/circles/dev-team/{action}")
    after = NEXT[status].get(action)
    if after is None:
        assert answer.status_code == 409
        assert "dev-team" in answer.json()["detail"]
        assert status in answer.json()["detail"]
    else:
        assert answer.status_code == 200
        assert answer.json()["status"] == after
    assert (await client.get("/circles/dev-team")).json()["status"] == (after or status)


async def test_starting_at_once_from_many_sides_starts_once(client, database):
    await make_circle(client)
    answers = await asyncio.gather(*(client.post("/circles/dev-team/start") for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    async with database.transaction() as tx:
        rows = await tx.conn.execute(select(EventRow.data).where(EventRow.type == "circle.status"))
        assert [row["status"] for row in rows.scalars()] == ["active"]


async def test_an_active_circle_is_not_deleted(client):
    await make_circle(client)
    await client.post("/circles/dev-team/start")
    answer = await client.delete("/circles/dev-team")
    assert answer.status_code == 409
    assert "active" in answer.json()["detail"]
    await client.post("/circles/dev-team/pause")
    assert (await client.delete("/circles/dev-team")).status_code == 204
    answer = await client.get("/circles/dev-team")
    assert answer.status_code == 404
    assert answer.json() == {"detail": "Circle 'dev-team' not found"}
    await make_circle(client)


async def test_a_taken_name_conflicts(client):
    await make_circle(client)
    answer = await client.post("/circles", json={"name": "dev-team"})
    assert answer.status_code == 409
    assert answer.json() == {"detail": "Circle 'dev-team' already exists"}


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"name": "Dev Team"}, ["name"]),
        ({"name": "dev-team\n"}, ["name"]),
        ({"name": ""}, ["name"]),
        ({"name": "x" * 51}, ["name"]),
        ({"name": "a", "display_name": "x" * 201}, ["display_name"]),
        ({"name": "a", "config": {"max_agents": 51}}, ["config", "max_agents"]),
        ({"name": "a", "config": {"max_agents": 0}}, ["config", "max_agents"]),
        ({"name": "a", "config": {"conversation_mode": "chaos"}}, ["config", "conversation_mode"]),
        ({"name": "a", "config": {"turn_timeout": 0}}, ["config", "turn_timeout"]),
        ({"name": "a", "config": 3}, ["config"]),
    ],
)
async def test_what_does_not_fit_is_refused_by_field(client, body, loc):
    answer = await client.post("/circles", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", *loc]


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("reactive", "mention_based"),
        ("moderated", "facilitator_led"),
        ("mention_based", "mention_based"),
        ("free_form", "free_form"),
    ],
)
async def test_both_spellings_of_a_mode_are_accepted_and_the_first_is_stored(client, sent, stored):
    made = await make_circle(client, config={"conversation_mode": sent, "facilitator_id": 3})
    assert made["config"]["conversation_mode"] == stored
    assert made["config"]["moderator_agent_id"] == 3
    assert "facilitator_id" not in made["config"]
    changed = await client.patch("/circles/dev-team", json={"config": {"facilitator_id": 4}})
    assert changed.json()["config"]["moderator_agent_id"] == 4


async def converse(client, agents, **more):
    return await client.post(
        "/conversations",
        json={"circle_name": "dev-team", "topic": "t", "agent_ids": agents, "auto_run": False}
        | more,
    )


async def test_the_circles_moderator_leads_only_what_is_facilitator_led(client):
    lead, dev = [(await make(client, name=name))["id"] for name in ("Lead", "Dev")]
    await make_circle(client, config={"moderator_agent_id": lead})
    for agent in (lead, dev):
        await client.post("/circles/dev-team/agents", json={"agent_id": agent})
    await client.post("/circles/dev-team/start")

    without = await converse(client, [dev])
    assert without.status_code == 201, without.text
    assert without.json()["facilitator_id"] is None
    led = await converse(client, [lead, dev], turn_strategy="moderated")
    assert led.status_code == 201, led.text
    assert led.json()["facilitator_id"] == lead
    refused = await converse(client, [dev], turn_strategy="moderated")
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "facilitator_id"]


async def test_a_patch_merges_the_rules_key_by_key(client):
    await make_circle(client, description="d", config={"max_agents": 5, "house_rule": "x"})
    answer = await client.patch(
        "/circles/dev-team", json={"display_name": "Devs", "config": {"turn_timeout": 60}}
    )
    assert answer.status_code == 200
    read = (await client.get("/circles/dev-team")).json()
    assert (read["display_name"], read["description"]) == ("Devs", "d")
    assert read["config"]["max_agents"] == 5
    assert read["config"]["turn_timeout"] == 60
    assert read["config"]["house_rule"] == "x"
    answer = await client.patch("/circles/dev-team", json={"config": {"max_agents": 99}})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "config", "max_agents"]


async def test_members_are_listed_as_they_joined(client):
    await make_circle(client)
    agents = [await make(client, name) for name in ("A", "B", "C")]
    for agent, role in zip(reversed(agents), ("lead", "observer", "member"), strict=True):
        answer = await client.post(
            "/circles/dev-team/agents", json={"agent_id": agent["id"], "role": role}
        )
        assert answer.status_code == 201
        assert answer.json()["role"] == role
    listed = (await client.get("/circles/dev-team/agents")).json()
    assert [row["agent_name"] for row in listed] == ["C", "B", "A"]
    assert (await client.get("/circles/dev-team")).json()["agent_count"] == 3


async def test_an_agent_joins_once_and_leaves_once(client):
    await make_circle(client)
    agent = await make(client)
    url = "/circles/dev-team/agents"
    assert (await client.post(url, json={"agent_id": agent["id"]})).status_code == 201
    again = await client.post(url, json={"agent_id": agent["id"]})
    assert again.status_code == 409
    assert (await client.delete(f"{url}/{agent['id']}")).status_code == 204
    assert (await client.delete(f"{url}/{agent['id']}")).status_code == 404
    assert (await client.get(url)).json() == []


async def test_a_circle_never_holds_more_than_max_agents(client):
    await make_circle(client, config={"max_agents": 2})
    agents = [await make(client, f"A{number}") for number in range(6)]
    url = "/circles/dev-team/agents"
    answers = await asyncio.gather(
        *(client.post(url, json={"agent_id": agent["id"]}) for agent in agents)
    )
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409, 409]
    assert len((await client.get(url)).json()) == 2
    shrunk = await client.patch("/circles/dev-team", json={"config": {"max_agents": 1}})
    assert shrunk.status_code == 409


async def test_who_does_not_exist_cannot_join(client):
    await make_circle(client)
    answer = await client.post("/circles/dev-team/agents", json={"agent_id": 99})
    assert answer.status_code == 404
    assert answer.json() == {"detail": "Agent 99 not found"}
    answer = await client.post("/circles/nowhere/agents", json={"agent_id": 99})
    assert answer.json() == {"detail": "Circle 'nowhere' not found"}
    bad = await client.post("/circles/dev-team/agents", json={"agent_id": 1, "role": "king"})
    assert bad.json()["detail"][0]["loc"] == ["body", "role"]


async def test_a_deleted_agent_leaves_the_count(client):
    await make_circle(client)
    agent = await make(client)
    await client.post("/circles/dev-team/agents", json={"agent_id": agent["id"]})
    await client.delete(f"/agents/{agent['id']}")
    assert (await client.get("/circles/dev-team")).json()["agent_count"] == 0
    assert (await client.get("/circles/dev-team/agents")).json() == []


async def test_an_archived_circle_changes_no_more(client):
    await make_circle(client)
    agent = await make(client)
    await client.post("/circles/dev-team/archive")
    for answer in (
        await client.post("/circles/dev-team/agents", json={"agent_id": agent["id"]}),
        await client.patch("/circles/dev-team", json={"description": "x"}),
    ):
        assert answer.status_code == 409
        assert "archived" in answer.json()["detail"]


async def test_pausing_and_archiving_reach_the_conversations(client):
    await make_circle(client)
    agent = await make(client)
    await client.post("/circles/dev-team/agents", json={"agent_id": agent["id"]})
    await client.post("/circles/dev-team/start")
    made = await client.post(
        "/conversations",
        json={"circle_name": "dev-team", "topic": "t", "agent_ids": [agent["id"]]},
    )
    assert made.status_code == 201, made.text
    url = f"/conversations/{made.json()['id']}"
    await client.post("/circles/dev-team/pause")
    assert (await client.get(url)).json()["status"] == "paused"
    await client.post("/circles/dev-team/resume")
    assert (await client.get(url)).json()["status"] in {"active", "pending"}
    await client.post("/circles/dev-team/archive")
    assert (await client.get(url)).json()["status"] == "cancelled"

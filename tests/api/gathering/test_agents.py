"""/agents: what is stored, merged, derived and refused."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select, update

from conclave.db import Database
from schema.tables.agents import AgentRow
from schema.tables.conversations import ConversationRow
from schema.tables.events import EventRow

Json = dict[str, Any]


async def make(client: httpx.AsyncClient, name: str = "Sophie", **more: Any) -> Json:
    answer = await client.post("/agents", json={"name": name, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def let_speak(database: Database, agent_id: int | None) -> None:
    async with database.transaction() as tx:
        await tx.conn.execute(
            insert(ConversationRow).values(
                kind="conversation",
                owner="local",
                topic="t",
                status="active",
                agent_ids=[agent_id],
                turn_strategy="round_robin",
                auto_run=False,
                max_turns=5,
                turn_timeout=30,
                speaking_agent_id=agent_id,
            )
        )


async def set_state(database: Database, agent_id: int, state: str) -> None:
    async with database.transaction() as tx:
        await tx.conn.execute(update(AgentRow).where(AgentRow.id == agent_id).values(state=state))


async def test_an_agent_with_only_a_name_gets_the_stored_defaults(client):
    made = await make(client)
    assert made["provider"] == "anthropic"
    assert made["model"] == "claude-sonnet-4-20250514"
    assert made["status"] == "idle"
    read = (await client.get(f"/agents/{made['id']}")).json()
    assert read == made
    assert read["personality"] == {
        "traits": [],
        "communication_style": "professional",
        "languages": ["English"],
    }
    assert read["config"] == {"temperature": 0.7, "max_tokens": 4096, "tools": []}
    assert read["background"] == {}


async def test_a_list_is_a_bare_array_with_its_total_in_a_header(client):
    for number in range(3):
        await make(client, f"Agent {number}")
    answer = await client.get("/agents", params={"limit": 2, "offset": 1})
    assert [row["name"] for row in answer.json()] == ["Agent 1", "Agent 2"]
    assert answer.headers["X-Total-Count"] == "3"
    assert set(answer.json()[0]) == {
        "id", "name", "role", "provider", "model", "status", "created_at",
    }  # fmt: skip


async def test_a_page_tells_its_place_in_the_whole(client):
    for number in range(5):
        await make(client, f"Agent {number}")
    page = (await client.get("/agents", params={"page": 2, "page_size": 2})).json()
    assert [row["name"] for row in page["items"]] == ["Agent 2", "Agent 3"]
    assert {key: page[key] for key in ("total", "page", "page_size", "pages")} == {
        "total": 5, "page": 2, "page_size": 2, "pages": 3,
    }  # fmt: skip
    assert (await client.get("/agents", params={"page": 1})).json()["page_size"] == 10


async def test_a_patch_merges_config_and_personality_key_by_key(client):
    made = await make(
        client,
        role="Architect",
        config={"temperature": 0.2, "seed": 7},
        personality={"traits": ["calm"]},
        background={"a": 1},
    )
    answer = await client.patch(
        f"/agents/{made['id']}",
        json={
            "role": None,
            "config": {"temperature": 0.8},
            "personality": {"communication_style": "dry"},
            "background": {"b": 2},
        },
    )
    assert answer.status_code == 200
    changed = (await client.get(f"/agents/{made['id']}")).json()
    assert changed["role"] is None
    assert changed["config"] == {"temperature": 0.8, "max_tokens": 4096, "tools": [], "seed": 7}
    assert changed["personality"]["traits"] == ["calm"]
    assert changed["personality"]["communication_style"] == "dry"
    assert changed["background"] == {"b": 2}
    assert changed["updated_at"] > made["updated_at"]


async def test_a_patch_that_does_not_fit_names_the_key_and_changes_nothing(client):
    made = await make(client)
    url = f"/agents/{made['id']}"
    answer = await client.patch(url, json={"name": "X", "config": {"temperature": 3}})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "config", "temperature"]
    for field in ("name", "model", "provider", "config"):
        answer = await client.patch(url, json={field: None})
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["body", field]
    assert (await client.get(url)).json() == made


async def test_a_deleted_agent_is_gone(client):
    made = await make(client)
    url = f"/agents/{made['id']}"
    assert (await client.delete(url)).status_code == 204
    for answer in (
        await client.get(url),
        await client.patch(url, json={"name": "X"}),
        await client.delete(url),
    ):
        assert answer.status_code == 404
        assert answer.json() == {"detail": f"Agent {made['id']} not found"}
    assert (await client.get("/agents")).json() == []


async def test_deleting_a_speaking_agent_conflicts(client, database):
    made = await make(client)
    await let_speak(database, made["id"])
    answer = await client.delete(f"/agents/{made['id']}")
    assert answer.status_code == 409
    assert "busy" in answer.json()["detail"]
    assert (await client.get(f"/agents/{made['id']}")).status_code == 200


@pytest.mark.parametrize("state", ["offline", "maintenance", "paused", "error"])
async def test_whatever_keeps_an_agent_from_work_shows_as_offline(client, database, state):
    made = await make(client)
    await let_speak(database, made["id"])
    await set_state(database, made["id"], state)
    assert (await client.get(f"/agents/{made['id']}")).json()["status"] == "offline"
    listed = (await client.get("/agents", params={"status": "offline"})).json()
    assert [row["id"] for row in listed] == [made["id"]]


async def test_the_status_filter_goes_by_the_derived_status(client, database):
    idle, busy, off, teamed = [await make(client, name) for name in ("I", "B", "O", "T")]
    await let_speak(database, busy["id"])
    await set_state(database, off["id"], "offline")
    await client.post("/circles", json={"name": "team"})
    await client.post("/circles/team/agents", json={"agent_id": teamed["id"]})
    await client.post("/circles/team/start")
    for status, agent in (("idle", idle), ("busy", busy), ("offline", off), ("active", teamed)):
        answer = await client.get("/agents", params={"status": status})
        assert [row["id"] for row in answer.json()] == [agent["id"]]
        assert answer.json()[0]["status"] == status
        assert answer.headers["X-Total-Count"] == "1"
    assert (await client.get("/agents", params={"status": "asleep"})).status_code == 422


async def test_agents_of_one_name_made_at_once_get_slugs_of_their_own(client, database):
    made = await asyncio.gather(*(make(client, "Zoë Ångström") for _ in range(12)))
    assert len({agent["id"] for agent in made}) == 12
    async with database.transaction() as tx:
        slugs = set((await tx.conn.execute(select(AgentRow.slug))).scalars())
    assert slugs == {"zoe_angstrom", *(f"zoe_angstrom_{number}" for number in range(2, 13))}


async def test_changes_are_told_in_the_agents_stream(client, database):
    made = await make(client)
    await client.patch(f"/agents/{made['id']}", json={"name": "Sofia"})
    await client.delete(f"/agents/{made['id']}")
    async with database.transaction() as tx:
        rows = await tx.conn.execute(
            select(EventRow.stream, EventRow.seq, EventRow.type, EventRow.agent_id).order_by(
                EventRow.seq
            )
        )
        assert [tuple(row) for row in rows] == [
            (f"agent-{made['id']}", 1, "agent.created", made["id"]),
            (f"agent-{made['id']}", 2, "agent.updated", made["id"]),
            (f"agent-{made['id']}", 3, "agent.deleted", made["id"]),
        ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": 7}, "name"),
        ({"name": "A", "role": "x" * 101}, "role"),
        ({"name": "A", "provider": "acme"}, "provider"),
        ({"name": "A", "provider": "demo"}, "provider"),
        ({"name": "A", "config": {"temperature": 2.1}}, "config"),
        ({"name": "A", "config": {"max_tokens": 0}}, "config"),
        ({"name": "A", "background": []}, "background"),
        ({"name": "A", "personality": {"traits": "calm"}}, "personality"),
    ],
)
async def test_what_does_not_fit_is_refused_by_field(client, body, field):
    answer = await client.post("/agents", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][:2] == ["body", field]
    assert (await client.get("/agents")).json() == []


async def test_a_missing_field_reads_as_the_reference_prints_it(client):
    answer = await client.post("/agents", json={"role": "x"})
    assert answer.json() == {
        "detail": [
            {"loc": ["body", "name"], "msg": "field required", "type": "value_error.missing"}
        ]
    }


async def test_a_session_is_a_conversation_of_one_agent(client):
    made = await make(client)
    url = f"/agents/{made['id']}/sessions"
    opened = await client.post(url)
    assert opened.status_code == 201
    session = opened.json()
    assert session["agent_id"] == made["id"]
    assert set(session) == {
        "id", "agent_id", "status", "started_at", "ended_at", "message_count",
    }  # fmt: skip
    assert [row["id"] for row in (await client.get(url)).json()] == [session["id"]]
    assert (await client.post("/agents/999/sessions", json={})).status_code == 404
    assert (await client.get("/agents/999/sessions")).status_code == 404

"""/memory and /agents/{id}/memories: what is kept, listed, forgotten and refused."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from schema.tables.events import EventRow
from schema.tables.memories import MemoryRow
from tests.api.gathering.test_agents import make
from tests.api.gathering.test_bad_input import stored_rows

FITS = {"key": "k", "value": "v"}


async def remember(client: Any, agent: Any = None, **more: Any) -> Any:
    whose = {} if agent is None else {"agent_id": agent["id"]}
    answer = await client.post("/memory", json=FITS | whose | more)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_memory_with_only_a_key_and_a_value_is_everybodys(client, database):
    made = await remember(client)
    assert isinstance(made.pop("created_at"), str)
    assert made == FITS | {
        "id": 1,
        "agent_id": None,
        "scope": "global",
        "scope_id": None,
        "memory_type": "fact",
        "tags": [],
        "importance": 0.5,
    }
    async with database.transaction() as tx:
        assert (await tx.conn.execute(select(MemoryRow.content))).scalars().all() == ["v"]


async def test_what_is_made_is_what_the_agents_list_shows(client):
    agent = await make(client)
    made = await remember(
        client,
        agent,
        scope="circle",
        scope_id=7,
        key=" preference ",
        value="Likes detailed explanations",
        memory_type="preference",
        tags=["style", " tone "],
        importance=1,
        nonsense=True,
    )
    assert made["key"] == "preference"
    assert made["tags"] == ["style", "tone"]
    assert (made["scope"], made["scope_id"], made["importance"]) == ("circle", 7, 1.0)
    answer = await client.get(f"/agents/{agent['id']}/memories")
    assert answer.json() == [made]
    assert answer.headers["x-total-count"] == "1"


async def test_a_memory_that_names_an_agent_has_its_scope_unless_told(client):
    agent = await make(client)
    assert (await remember(client, agent))["scope"] == "agent"
    assert (await remember(client, agent, scope="global"))["scope"] == "global"


async def test_an_agents_list_shows_its_own_memories_only(client):
    sophie, olivia = await make(client, "Sophie"), await make(client, "Olivia")
    hers = await remember(client, sophie)
    await remember(client, olivia)
    await remember(client)
    assert (await client.get(f"/agents/{sophie['id']}/memories")).json() == [hers]


async def test_a_key_may_repeat(client):
    agent = await make(client)
    ids = [(await remember(client, agent, value=value))["id"] for value in ("a", "b")]
    listed = (await client.get(f"/agents/{agent['id']}/memories")).json()
    assert [row["id"] for row in listed] == ids


async def test_the_list_comes_in_pieces(client):
    agent = await make(client)
    ids = [(await remember(client, agent, key=f"k{number}"))["id"] for number in range(5)]
    url = f"/agents/{agent['id']}/memories"
    piece = await client.get(url, params={"limit": 2, "offset": 1})
    assert [row["id"] for row in piece.json()] == ids[1:3]
    assert piece.headers["x-total-count"] == "5"
    page = (await client.get(url, params={"page": 3, "page_size": 2})).json()
    assert [row["id"] for row in page.pop("items")] == ids[4:]
    assert page == {"total": 5, "page": 3, "page_size": 2, "pages": 3}
    assert (await client.get(url, params={"limit": 0})).status_code == 422


async def test_a_deleted_memory_is_gone_and_cannot_be_deleted_again(client, database):
    agent = await make(client)
    kept, gone = await remember(client, agent), await remember(client, agent)
    assert (await client.delete(f"/memory/{gone['id']}")).status_code == 204
    assert (await client.get(f"/agents/{agent['id']}/memories")).json() == [kept]
    again = await client.delete(f"/memory/{gone['id']}")
    assert again.status_code == 404
    assert again.json() == {"detail": f"Memory {gone['id']} not found"}
    async with database.transaction() as tx:
        stored = await tx.conn.execute(select(MemoryRow.id))
        assert stored.scalars().all() == [kept["id"]]


async def test_a_memorys_events_say_nothing_of_what_it_said(client, database):
    agent = await make(client)
    mine = await remember(client, agent, key="secret-key", value="secret-value")
    shared = await remember(client)
    await client.delete(f"/memory/{mine['id']}")
    columns = (EventRow.stream, EventRow.type, EventRow.agent_id, EventRow.data)
    async with database.transaction() as tx:
        statement = select(*columns).where(EventRow.type.startswith("memory."))
        rows = (await tx.conn.execute(statement.order_by(EventRow.id))).all()
    stream = f"agent-{agent['id']}"
    assert [(*row[:3], row.data["memory_id"]) for row in rows] == [
        (stream, "memory.created", agent["id"], mine["id"]),
        ("memories", "memory.created", None, shared["id"]),
        (stream, "memory.deleted", agent["id"], mine["id"]),
    ]
    assert "secret" not in str(rows)


async def test_memories_of_an_unknown_or_deleted_agent_are_not_found(client):
    answer = await client.get("/agents/99/memories")
    assert answer.status_code == 404
    assert answer.json() == {"detail": "Agent 99 not found"}
    agent = await make(client)
    memory = await remember(client, agent)
    assert (await client.delete(f"/agents/{agent['id']}")).status_code == 204
    assert (await client.get(f"/agents/{agent['id']}/memories")).status_code == 404
    refused = await client.post("/memory", json=FITS | {"agent_id": agent["id"]})
    assert refused.json()["detail"][0]["loc"] == ["body", "agent_id"]
    assert (await client.delete(f"/memory/{memory['id']}")).status_code == 204


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"value": "v"}, ["key"]),
        ({"key": "k"}, ["value"]),
        (FITS | {"key": "x" * 201}, ["key"]),
        (FITS | {"key": " "}, ["key"]),
        (FITS | {"key": "\x00"}, ["key"]),
        (FITS | {"value": ""}, ["value"]),
        (FITS | {"value": None}, ["value"]),
        (FITS | {"value": "x" * 20_001}, ["value"]),
        (FITS | {"agent_id": 99}, ["agent_id"]),
        (FITS | {"agent_id": "me"}, ["agent_id"]),
        (FITS | {"agent_id": 2**63}, ["agent_id"]),
        (FITS | {"scope": "agent"}, ["agent_id"]),
        (FITS | {"scope": "galaxy"}, ["scope"]),
        (FITS | {"scope": "circle", "scope_id": -1}, ["scope_id"]),
        (FITS | {"memory_type": "dream"}, ["memory_type"]),
        (FITS | {"tags": "style"}, ["tags"]),
        (FITS | {"tags": [""]}, ["tags", 0]),
        (FITS | {"tags": ["x"] * 51}, ["tags"]),
        (FITS | {"importance": 1.1}, ["importance"]),
        (FITS | {"importance": -0.1}, ["importance"]),
    ],
)
async def test_a_memory_that_does_not_fit_is_refused_by_field(client, database, body, place):
    answer = await client.post("/memory", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", *place]
    assert answer.json()["detail"][0]["msg"]
    assert await stored_rows(database) == 0


@pytest.mark.parametrize(
    ("path", "status"),
    [("/memory/abc", 422), ("/memory/9223372036854775808", 422), ("/memory/0", 404)],
)
async def test_an_odd_id_is_never_a_failure(client, path, status):
    assert (await client.delete(path)).status_code == status

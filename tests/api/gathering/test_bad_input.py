"""Whatever is sent, the answer names what is wrong, is never a 500, and nothing is stored."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from schema.tables.base import Base
from schema.tables.events import EventRow
from tests.api.gathering.test_agents import make

JSON = {"content-type": "application/json"}
DEEP = b'{"name":"A","background":' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}"


async def stored_rows(database) -> int:
    """Count every row but those of the outbox, which are struck as they are delivered."""
    async with database.transaction() as tx:
        total = 0
        for table in Base.metadata.sorted_tables:
            if table.name == "outbox":
                continue
            total += (await tx.conn.execute(select(func.count()).select_from(table))).scalar_one()
        return total


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"{",
        b'{"name": "A",}',
        b'{"name": "\xff\xfe"}',
        b"[" * 10_000,
        b"[" * 10_000 + b"]" * 10_000,
        b'{"name": "\x00"}',
        b'{"name": ' + b"9" * 5000 + b"}",
    ],
)
@pytest.mark.parametrize("path", ["/agents", "/circles", "/conversations"])
async def test_a_body_that_is_not_json_is_a_bad_request(client, database, path, body):
    answer = await client.post(path, content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json() == {"detail": "Invalid request body"}
    assert await stored_rows(database) == 0


async def test_a_body_of_another_type_is_a_bad_request(client):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = await client.post(
            "/agents", content=b'{"name":"A"}', headers={"content-type": kind}
        )
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith("Invalid request body")


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"name": "a\\u0000b"}', ["body", "name"]),
        (b'{"name": "\\ud800"}', ["body", "name"]),
        (b'{"name": "A", "background": {"k": ["x", "\\u0000"]}}', ["body", "background", "k", 1]),
        (b'{"name": "A", "background": {"\\u0000": 1}}', ["body", "background"]),
        (b'{"name": "A", "background": {"\\udfff": 1}}', ["body", "background"]),
        (b'{"name": "A", "config": {"temperature": NaN}}', ["body", "config", "temperature"]),
        (b'{"name": "A", "background": {"x": Infinity}}', ["body", "background", "x"]),
        (b'{"name": "A", "background": {"x": -1e999}}', ["body", "background", "x"]),
        (b'{"name": "A", "ignored": "\\u0000"}', ["body", "ignored"]),
        (b"[]", ["body"]),
        (b'"text"', ["body"]),
        (b"null", ["body"]),
    ],
)
async def test_what_cannot_be_stored_is_refused_by_field(client, database, body, place):
    answer = await client.post("/agents", content=body, headers=JSON)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == place
    assert answer.json()["detail"][0]["msg"]
    assert await stored_rows(database) == 0


async def test_nesting_is_bounded(client, database):
    answer = await client.post("/agents", content=DEEP, headers=JSON)
    assert answer.status_code == 422
    assert "nested" in answer.json()["detail"][0]["msg"]
    assert await stored_rows(database) == 0


async def test_unknown_fields_are_ignored(client):
    made = await make(client, nonsense={"a": [1]})
    assert "nonsense" not in made


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/agents/abc", 422),
        ("/agents/1.5", 422),
        ("/agents/-1", 422),
        ("/agents/0", 404),
        ("/agents/9223372036854775807", 404),
        ("/agents/9223372036854775808", 422),
        ("/agents/" + "9" * 5000, 422),
        ("/agents/1%00", 422),
        ("/circles/a%00b", 422),
        ("/circles/" + "x" * 300, 422),
        ("/circles/%ED%A0%80", 404),
        ("/circles/no%20such%2Fcircle", 404),
        ("/conversations/abc", 422),
        ("/conversations/99999999999999999999", 422),
        ("/conversations/7", 404),
        ("/conversations/7/messages", 404),
        ("/conversations?circle_name=%00", 422),
        ("/conversations?status=asleep", 422),
        ("/agents?limit=0", 422),
        ("/agents?limit=501", 422),
        ("/agents?limit=99999999999999999999999", 422),
        ("/agents?limit=many", 422),
        ("/agents?offset=-1", 422),
        ("/agents?offset=9223372036854775808", 422),
        ("/agents?page=0", 422),
        ("/agents?page=99999999999999999999", 422),
        ("/agents?page_size=100000", 422),
        ("/agents?page=1000000&page_size=500", 200),
        ("/nowhere", 404),
        ("/nowhere/%00", 404),
    ],
)
async def test_odd_paths_and_queries_never_fail(client, path, status):
    answer = await client.get(path)
    assert answer.status_code == status, answer.text
    if status == 422:
        place = answer.json()["detail"][0]["loc"]
        assert place[0] in {"path", "query"}
        assert len(place) == 2


async def test_an_unknown_path_and_method_are_told_as_json(client):
    answer = await client.get("/nowhere")
    assert answer.json() == {"detail": "Resource not found"}
    answer = await client.put("/agents")
    assert answer.status_code == 405
    assert answer.json() == {"detail": "Method not allowed"}
    assert answer.headers["allow"] == "GET, HEAD, POST"


async def test_trailing_slashes_are_accepted_without_a_redirect(client):
    made = await client.post("/agents/", json={"name": "A"})
    assert made.status_code == 201
    assert (await client.get(f"/agents/{made.json()['id']}/")).status_code == 200
    assert (await client.get("/health/")).status_code == 200


async def test_a_large_body_is_refused_announced_or_not(client, database):
    large = b'{"name": "' + b"x" * 1024 * 1024 + b'"}'
    announced = await client.post("/agents", content=large, headers=JSON)

    async def pieces():
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    streamed = await client.post("/agents", content=pieces(), headers=JSON)
    for answer in (announced, streamed):
        assert answer.status_code == 413
        assert "1048576 bytes" in answer.json()["detail"]
    assert await stored_rows(database) == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"agent_ids": [1]}, "topic"),
        ({"topic": "t"}, "agent_ids"),
        ({"topic": "t", "agent_ids": []}, "agent_ids"),
        ({"topic": "t", "agent_ids": ["x"]}, "agent_ids"),
        ({"topic": "t", "agent_ids": [2**63]}, "agent_ids"),
        ({"topic": "t", "agent_ids": [1, 1]}, "agent_ids"),
        ({"topic": "t", "agent_ids": list(range(51))}, "agent_ids"),
        ({"topic": "", "agent_ids": [1]}, "topic"),
        ({"topic": "t", "agent_ids": [1], "max_turns": 0}, "max_turns"),
        ({"topic": "t", "agent_ids": [1], "max_turns": 501}, "max_turns"),
        ({"topic": "t", "agent_ids": [1], "turn_strategy": "chaos"}, "turn_strategy"),
        ({"topic": "t", "agent_ids": [1], "initial_prompt": "x" * 100_001}, "initial_prompt"),
        ({"topic": "t", "agent_ids": [1], "facilitator_id": -1}, "facilitator_id"),
    ],
)
async def test_a_conversation_that_does_not_fit_is_refused_by_field(client, database, body, field):
    answer = await client.post("/conversations", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][:2] == ["body", field]
    assert await stored_rows(database) == 0


async def test_a_conversation_of_unknown_agents_or_circle_stores_nothing(client, database):
    for body in (
        {"topic": "t", "agent_ids": [41]},
        {"topic": "t", "agent_ids": [41], "circle_name": "nowhere"},
    ):
        answer = await client.post("/conversations", json=body)
        assert answer.status_code in {404, 422}
    assert await stored_rows(database) == 0


async def test_an_advance_that_does_not_fit_is_refused_by_field(client, database):
    agent = await make(client)
    made = await client.post(
        "/conversations", json={"topic": "t", "agent_ids": [agent["id"]], "auto_run": False}
    )
    url = f"/conversations/{made.json()['id']}/advance"
    before = await stored_rows(database)
    for body, field in (
        ({"prompt": "x" * 100_001}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "\x00"}, "prompt"),
        ({"agent_id": "me"}, "agent_id"),
        ({"agent_id": 10**30}, "agent_id"),
    ):
        answer = await client.post(url, json=body)
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["body", field]
    for key in ("", "x" * 256, "a\tb", "caf\u00e9".encode()):
        answer = await client.post(url, headers={"Idempotency-Key": key})
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"][0] == "header"
    assert await stored_rows(database) == before


async def test_an_agent_that_is_gone_is_not_asked_to_speak(client, database, engine):
    agents = [(await make(client, name=name))["id"] for name in ("A", "B")]
    made = await client.post(
        "/conversations", json={"topic": "t", "agent_ids": agents, "auto_run": False}
    )
    assert (await client.delete(f"/agents/{agents[0]}")).status_code == 204
    before = await stored_rows(database)
    answer = await client.post(
        f"/conversations/{made.json()['id']}/advance", json={"agent_id": agents[0]}
    )
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "agent_id"]
    assert await stored_rows(database) == before


async def test_an_opening_prompts_event_tells_its_cost_as_a_number(client, database):
    agent = await make(client)
    body = {"topic": "t", "agent_ids": [agent["id"]], "auto_run": False, "initial_prompt": "Hi"}
    assert (await client.post("/conversations", json=body)).status_code == 201
    async with database.transaction() as tx:
        told = await tx.conn.scalar(
            select(EventRow.data).where(EventRow.type == "conversation.message")
        )
    assert told["cost_usd"] == 0
    assert not isinstance(told["cost_usd"], str)


async def test_an_advance_without_a_body_and_without_waiting_is_accepted(client, engine):
    agent = await make(client)
    made = await client.post(
        "/conversations", json={"topic": "t", "agent_ids": [agent["id"]], "auto_run": False}
    )
    url = f"/conversations/{made.json()['id']}"
    answer = await client.post(f"{url}/advance", params={"wait": "false"})
    assert answer.status_code == 202
    assert answer.json()["messages"] == []
    assert answer.json()["conversation"]["id"] == made.json()["id"]
    ended = await client.post(f"{url}/end")
    assert ended.json()["status"] == "cancelled"
    assert (await client.post(f"{url}/advance")).status_code == 409

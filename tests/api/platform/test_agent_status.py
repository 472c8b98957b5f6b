"""/api/v1/agents: the status, what changes it, and what that does to what runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import insert, select, update

from conclave.container import Core
from conclave.db import Database
from schema.tables.agents import AgentRow
from schema.tables.conversations import ConversationRow
from schema.tables.events import EventRow
from schema.tables.tasks import TaskRow
from tests.api.platform.agents import PATH, Json, conversation, made, moved, patched, shown
from tests.fakes.engine import FakeEngine
from tests.fakes.tasks import FakeTaskDesk
from tests.waiting import until


@pytest.fixture
def desk(core: Core) -> Iterator[FakeTaskDesk]:
    work = core.agents.work
    before, work.tasks = work.tasks, FakeTaskDesk()
    assert isinstance(work.tasks, FakeTaskDesk)
    yield work.tasks
    work.tasks = before


async def statuses(database: Database) -> list[tuple[str, str]]:
    """Return the changes of status that were told of."""
    async with database.transaction() as tx:
        rows = await tx.conn.scalars(
            select(EventRow.data).where(EventRow.type == "agent.status").order_by(EventRow.id)
        )
        return [(str(row["previous_status"]), str(row["status"])) for row in rows]


async def running_task(database: Database, agent_id: int) -> int:
    conversation_id = await conversation(database, agent_id, kind="task")
    async with database.transaction() as tx:
        stored = await tx.conn.execute(
            insert(TaskRow)
            .values(
                title="t", status="in_progress", agent_id=agent_id, conversation_id=conversation_id
            )
            .returning(TaskRow.id)
        )
        return stored.scalar_one()


async def test_stopped_and_started(
    client: httpx.AsyncClient, database: Database, desk: FakeTaskDesk
):
    agent = await made(client)
    stopped = await moved(client, agent["id"], "stop")
    assert (stopped["status"], stopped["is_active"]) == ("offline", False)
    assert (await client.get(f"/agents/{agent['id']}")).json()["status"] == "offline"
    assert desk.released == [(agent["id"], True)]
    assert (await moved(client, agent["id"], "stop"))["status"] == "offline"
    looked = desk.looked
    started = await moved(client, agent["id"], "start")
    assert (started["status"], started["is_active"]) == ("idle", True)
    assert desk.looked == looked + 1
    assert (await client.get(f"/agents/{agent['id']}")).json()["status"] == "idle"
    await moved(client, agent["id"], "start")
    assert await statuses(database) == [("idle", "offline"), ("offline", "idle")]


async def test_a_patch_stops_pauses_and_starts(
    client: httpx.AsyncClient, database: Database, desk: FakeTaskDesk
):
    agent_id = (await made(client))["id"]
    looked = desk.looked
    assert (await patched(client, agent_id, is_active=False))["status"] == "offline"
    assert (await patched(client, agent_id, is_active=True))["status"] == "idle"
    assert desk.looked == looked + 1
    paused = await patched(client, agent_id, status="paused")
    assert (paused["status"], paused["is_active"]) == ("paused", True)
    assert (await client.get(f"/agents/{agent_id}")).json()["status"] == "offline"
    assert (await patched(client, agent_id, is_active=True))["status"] == "paused"
    assert (await patched(client, agent_id, status="maintenance"))["status"] == "maintenance"
    assert (await moved(client, agent_id, "start"))["status"] == "idle"
    assert desk.released == [(agent_id, True)] * 3
    assert await statuses(database) == [
        ("idle", "offline"), ("offline", "idle"), ("idle", "paused"),
        ("paused", "maintenance"), ("maintenance", "idle"),
    ]  # fmt: skip
    for fields in (
        {"status": "idle"},
        {"status": "busy"},
        {"status": "paused", "is_active": False},
    ):
        answer = await client.patch(f"{PATH}/{agent_id}", json=fields)
        assert answer.status_code == 422, fields
        assert answer.json()["details"]["errors"][0]["field"] == "body.status"


async def test_stopped_by_many_at_once_it_is_told_once(
    client: httpx.AsyncClient, database: Database
):
    agent_id = (await made(client))["id"]
    await asyncio.gather(*(moved(client, agent_id, "stop") for _ in range(5)))
    assert await statuses(database) == [("idle", "offline")]


async def test_it_is_busy_while_a_task_runs(client: httpx.AsyncClient, database: Database):
    agent_id = (await made(client))["id"]
    task = await running_task(database, agent_id)
    assert (await shown(client, agent_id))["status"] == "busy"
    assert (await client.get(f"/agents/{agent_id}")).json()["status"] == "busy"
    assert (await client.delete(f"/agents/{agent_id}")).status_code == 409
    assert (await moved(client, agent_id, "start"))["status"] == "busy"
    async with database.transaction() as tx:
        await tx.conn.execute(update(TaskRow).where(TaskRow.id == task).values(status="completed"))
    assert (await shown(client, agent_id))["status"] == "idle"


@pytest.mark.parametrize("change", ["stop", "is_active", "paused", "DELETE"])
async def test_a_turn_that_runs_is_stopped(
    client: httpx.AsyncClient, database: Database, engine: FakeEngine, desk: FakeTaskDesk,
    core: Core, change: str,
):  # fmt: skip
    agent = await made(client)
    talk = await conversation(database, agent["id"], speaking_agent_id=agent["id"], turn_count=4)
    other = await conversation(database, agent["id"])
    of_task = await conversation(database, agent["id"], speaking_agent_id=agent["id"], kind="task")
    path = f"{PATH}/{agent['id']}"
    if change == "DELETE":
        assert (await client.delete(path)).status_code == 204
    elif change == "stop":
        await moved(client, agent["id"], "stop")
    else:
        fields: Json = {"is_active": False} if change == "is_active" else {"status": "paused"}
        await patched(client, agent["id"], **fields)
        assert await statuses(database) == [
            ("busy", "offline" if "is_active" in fields else "paused")
        ]
    async with database.transaction() as tx:
        rows = await tx.conn.execute(select(ConversationRow.id, ConversationRow.cancel_turn))
        assert {row.id: row.cancel_turn for row in rows} == {talk: 5, other: None, of_task: None}
    assert desk.released == [(agent["id"], change != "DELETE")]
    await until(lambda: [one.conversation_id for one in engine.woken] == [talk], what="its wake-up")


async def test_changes_that_let_it_take_more_look_for_work(
    client: httpx.AsyncClient, desk: FakeTaskDesk
):
    agent_id = (await made(client))["id"]
    assert desk.looked == 1
    await patched(client, agent_id, name="Bob", tags=["x"])
    assert desk.looked == 1
    await patched(client, agent_id, max_concurrent_tasks=5)
    await patched(client, agent_id, enabled_tools=["http"])
    assert desk.looked == 3
    await patched(client, agent_id, status="paused", max_concurrent_tasks=6)
    assert desk.looked == 3


async def test_who_is_at_rest_is_given_no_turns(client: httpx.AsyncClient):
    agent_id = (await made(client))["id"]
    await patched(client, agent_id, status="paused")
    body = {"topic": "t", "agent_ids": [agent_id], "auto_run": False}
    refused = await client.post("/conversations", json=body)
    assert refused.status_code == 422
    assert (await client.post("/api/chats", json={"agent_id": agent_id})).status_code == 409
    await moved(client, agent_id, "start")
    assert (await client.post("/conversations", json=body)).status_code == 201


async def test_what_is_told_names_the_agent(client: httpx.AsyncClient, database: Database):
    agent = await made(client)
    await moved(client, agent["id"], "stop")
    async with database.transaction() as tx:
        row = (await tx.conn.execute(select(EventRow).where(EventRow.type == "agent.status"))).one()
        state = await tx.conn.scalar(select(AgentRow.state).where(AgentRow.id == agent["id"]))
    assert row.data == {
        "id": agent["id"], "slug": "ada", "name": "Ada", "status": "offline",
        "previous_status": "idle",
    }  # fmt: skip
    assert (row.agent_id, row.owner, state) == (agent["id"], None, "offline")

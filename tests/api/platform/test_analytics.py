"""/api/v1/analytics."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from sqlalchemy import insert, update

from conclave.db import Database
from schema.tables.agents import AgentRow
from schema.tables.conversations import ConversationRow
from schema.tables.tasks import TaskRow

PATH = "/api/v1/analytics"


async def named(client: httpx.AsyncClient, name: str) -> int:
    made = await client.post("/api/v1/agents", json={"name": name, "llm_provider": "openai"})
    assert made.status_code == 201
    return made.json()["id"]


async def count(database: Database, agent_id: int, completed: int, failed: int) -> None:
    async with database.transaction() as tx:
        await tx.conn.execute(
            update(AgentRow)
            .where(AgentRow.id == agent_id)
            .values(tasks_completed=completed, tasks_failed=failed)
        )


async def task(database: Database, created_at: datetime, status: str, **more: Any) -> None:
    async with database.transaction() as tx:
        talk = await tx.conn.execute(
            insert(ConversationRow)
            .values(
                kind="task", owner="local", topic="t", status="active", agent_ids=[],
                turn_strategy="round_robin", auto_run=False, max_turns=5, turn_timeout=30,
            )
            .returning(ConversationRow.id)
        )  # fmt: skip
        values = {"title": "t", "status": status, "created_at": created_at, **more}
        await tx.conn.execute(insert(TaskRow).values(**values, conversation_id=talk.scalar_one()))


async def test_agents_are_compared_by_what_they_completed(
    client: httpx.AsyncClient, database: Database
):
    ada, bob, cyd = [await named(client, name) for name in ("Ada", "Bob", "Cyd")]
    await count(database, ada, 1, 0)
    await count(database, bob, 2, 1)
    await client.post(f"/api/v1/agents/{cyd}/stop")
    answer = await client.get(f"{PATH}/agents")
    assert answer.status_code == 200
    assert answer.headers["x-total-count"] == "3"
    rows = answer.json()
    assert [row["id"] for row in rows] == [bob, ada, cyd]
    assert rows[0] == {
        "id": bob, "name": "Bob", "role": "general", "status": "idle", "tasks_completed": 2,
        "tasks_failed": 1, "total_tasks": 3, "success_rate": 66.7, "llm_provider": "openai",
        "llm_model": rows[0]["llm_model"],
    }  # fmt: skip
    assert (rows[2]["status"], rows[2]["success_rate"]) == ("offline", 0)
    one = await client.get(f"{PATH}/agents?limit=1&offset=1")
    assert [row["id"] for row in one.json()] == [ada]
    assert (await client.get(f"{PATH}/agents?limit=0")).status_code == 422


async def test_every_day_has_its_row(client: httpx.AsyncClient, database: Database):
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    await task(database, midnight, "completed")
    await task(database, midnight, "failed")
    await task(database, midnight, "pending")
    await task(database, midnight, "completed", deleted_at=midnight)
    await task(database, midnight - timedelta(seconds=1), "completed")
    await task(database, midnight - timedelta(days=2, seconds=1), "completed")
    answer = await client.get(f"{PATH}/tasks/timeline?days=3")
    assert answer.status_code == 200
    dates = [(midnight - timedelta(days=back)).date().isoformat() for back in (2, 1, 0)]
    assert answer.json() == [
        {"date": dates[0], "total": 0, "completed": 0, "failed": 0},
        {"date": dates[1], "total": 1, "completed": 1, "failed": 0},
        {"date": dates[2], "total": 3, "completed": 1, "failed": 1},
    ]
    assert len((await client.get(f"{PATH}/tasks/timeline")).json()) == 30
    for days in ("0", "366", "x"):
        refused = await client.get(f"{PATH}/tasks/timeline?days={days}")
        assert refused.status_code == 422

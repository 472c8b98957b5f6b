"""Agents of /api/v1 as tests ask for them."""

from __future__ import annotations

from typing import Any

import httpx
from sqlalchemy import insert

from conclave.db import Database
from schema.tables.conversations import ConversationRow

PATH = "/api/v1/agents"
Json = dict[str, Any]


async def made(client: httpx.AsyncClient, **fields: Any) -> Json:
    answer = await client.post(PATH, json={"name": "Ada", **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def shown(client: httpx.AsyncClient, agent_id: int) -> Json:
    answer = await client.get(f"{PATH}/{agent_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def patched(client: httpx.AsyncClient, agent_id: int, **fields: Any) -> Json:
    answer = await client.patch(f"{PATH}/{agent_id}", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def moved(client: httpx.AsyncClient, agent_id: int, move: str) -> Json:
    answer = await client.post(f"{PATH}/{agent_id}/{move}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def conversation(database: Database, agent_id: int, **more: Any) -> int:
    async with database.transaction() as tx:
        stored = await tx.conn.execute(
            insert(ConversationRow)
            .values(
                owner="local", topic="t", status="active", agent_ids=[agent_id],
                turn_strategy="round_robin", auto_run=False, max_turns=5, turn_timeout=30,
                started=True, **{"kind": "conversation", **more},
            )
            .returning(ConversationRow.id)
        )  # fmt: skip
        return stored.scalar_one()

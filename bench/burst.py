"""Messages to many new conversations at once: every reply is one model call, however late."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import psycopg

from bench.product import Bench

MESSAGES = 1000
_AT_ONCE = 100
_PATIENCE_SECONDS = 600
_LOOK_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Burst:
    """What became of them."""

    replies: int
    calls: int
    """To the model, those whose outcome is unknown among them."""
    seconds: float


async def burst(bench: Bench) -> Burst:
    """Send all, and wait for every reply."""
    agent = await bench.post(
        "/agents", {"name": "crowd", "provider": "openai", "model": "gpt-4o-mini"}
    )
    body = {"topic": "burst", "agent_ids": [agent["id"]], "auto_run": False, "max_turns": 5}
    gate = asyncio.Semaphore(_AT_ONCE)

    async def post(path: str, content: object) -> dict[str, object]:
        async with gate:
            return await bench.post(path, content)

    made = await asyncio.gather(*(post("/conversations", body) for _ in range(MESSAGES)))
    ids = [one["id"] for one in made]
    begun = time.monotonic()
    await asyncio.gather(
        *(post(f"/conversations/{one}/advance?wait=false", {"prompt": "hello"}) for one in ids)
    )
    url = bench.settings.database_url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while True:
            cursor = await connection.execute(
                "SELECT (SELECT count(*) FROM messages WHERE role = 'assistant'"
                " AND conversation_id = ANY(%(ids)s)),"
                " (SELECT count(*) FROM model_calls WHERE conversation_id = ANY(%(ids)s))",
                {"ids": ids},
            )
            row = await cursor.fetchone()
            assert row is not None
            took = time.monotonic() - begun
            if row[0] == MESSAGES:
                return Burst(row[0], row[1], took)
            if took > _PATIENCE_SECONDS:
                raise RuntimeError(f"{row[0]} of {MESSAGES} replies after {took:.0f} s")
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

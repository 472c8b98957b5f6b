"""How long a streamed piece of text takes from the model's socket to the client's."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time

import aiohttp

from bench.product import Bench

_TRIES = 30
_STAMP = re.compile(r"t=(\d+\.\d+)")


async def first_delta(bench: Bench) -> float:
    """Return p50 seconds between the model's emission of a reply's first piece and its arrival
    at a client that reads the conversation's event stream."""
    agent = await bench.post(
        "/agents", {"name": "streamer", "provider": "openai", "model": "gpt-4o-mini"}
    )
    conversation = await bench.post(
        "/conversations",
        {"topic": "deltas", "agent_ids": [agent["id"]], "auto_run": False, "max_turns": 500},
    )
    path = f"/conversations/{conversation['id']}"
    delays: list[float] = []
    async with bench.http.get(
        f"{bench.api}{path}/events", timeout=aiohttp.ClientTimeout(total=None)
    ) as stream:
        for number in range(_TRIES):
            turn = asyncio.create_task(bench.post(f"{path}/advance", {"prompt": f"say {number}"}))
            delays.append(await _arrival(stream))
            await turn
    return statistics.median(delays[3:])


async def _arrival(stream: aiohttp.ClientResponse) -> float:
    """Read until a turn's first piece is there; return its delay."""
    async for line in stream.content:
        now = time.time()
        if not line.startswith(b"data:"):
            continue
        frame = json.loads(line[5:])
        if frame["type"] != "conversation.text_delta" or frame["data"]["offset"] != 0:
            continue
        stamp = _STAMP.search(frame["data"]["text"])
        if stamp is None:
            raise RuntimeError("the model did not stamp its text")
        return now - float(stamp.group(1))
    raise RuntimeError("the event stream ended")

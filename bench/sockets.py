"""Many sockets on many running turns: how late text arrives, whether it is whole; and a replay."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass, field

import aiohttp
import psycopg

from bench.product import Bench

CHATS = 50
SOCKETS = 200
PER_SECOND = 20
SECONDS = 15
REPLAYED = 10_000
_PIECES = PER_SECOND * SECONDS
_PATIENCE = 90
_STAMP = re.compile(r"t=(\d+\.\d+) ")

_STORE = """
    WITH numbered AS (
        INSERT INTO events (stream, seq, type, data, conversation_id)
        SELECT held.name, held.last_seq + n, 'conversation.tool_started',
            jsonb_build_object('tool_use_id', 'call-' || n, 'tool_name', 'look',
                'arguments', jsonb_build_object('text', repeat('x', 50))), %(id)s
        FROM streams AS held, generate_series(1, %(many)s) AS n
        WHERE held.name = 'conversation-' || %(id)s
    )
    UPDATE streams SET last_seq = last_seq + %(many)s WHERE name = 'conversation-' || %(id)s
"""


@dataclass
class Listener:
    """What one socket heard of one turn."""

    text: str = ""
    pieces: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """When each was emitted, and its delay."""


@dataclass
class Crowd:
    """All sockets. `heard_whole` counts those that heard every piece in order, once."""

    delays: list[float]
    """Seconds from the model's socket to the client's, sorted, of every piece at every socket
    that was emitted while all turns spoke."""
    heard_whole: int
    sockets: int

    def delay(self, share: float) -> float:
        """Return the delay that this share of the pieces kept within."""
        return self.delays[int(share * (len(self.delays) - 1))]


async def crowd(bench: Bench) -> Crowd:
    """Let every chat run a turn that speaks, four sockets on each."""
    chats = [await _chat(bench) for _ in range(CHATS)]
    order = {"type": "user_message", "content": f"SPEAK {_PIECES} EVERY {1000 // PER_SECOND} MS"}
    sockets = await asyncio.gather(
        *(_open(bench, chats[n % CHATS], after=None) for n in range(SOCKETS))
    )
    listeners = [asyncio.create_task(_listen(socket)) for socket in sockets]
    await asyncio.gather(*(socket.send_json(order) for socket in sockets[:CHATS]))
    heard = await asyncio.wait_for(asyncio.gather(*listeners), SECONDS + _PATIENCE)
    await asyncio.gather(*(socket.close() for socket in sockets))
    all_speak = max(one.pieces[0][0] for one in heard)
    one_ends = min(one.pieces[-1][0] for one in heard)
    return Crowd(
        delays=sorted(
            delay for one in heard for at, delay in one.pieces if all_speak <= at <= one_ends
        ),
        heard_whole=sum(_is_whole(one) for one in heard),
        sockets=len(sockets),
    )


async def replay(bench: Bench) -> float:
    """Return the seconds from connecting to the last of 10,000 events told again."""
    chat = await _chat(bench)
    async with await psycopg.AsyncConnection.connect(bench.settings.database_url) as connection:
        found = await connection.execute("SELECT id FROM conversations WHERE chat_id = %s", (chat,))
        row = await found.fetchone()
        assert row is not None
        await connection.execute(_STORE, {"id": row[0], "many": REPLAYED})
    begun = time.perf_counter()
    socket = await _open(bench, chat, after=0)
    seqs: list[int] = []
    async for message in socket:
        frame = json.loads(message.data)
        if frame["type"] == "agent.tool_started":
            seqs.append(frame["seq"])
            if len(seqs) == REPLAYED:
                break
    took = time.perf_counter() - begun
    await socket.close()
    if seqs != list(range(seqs[0], seqs[0] + REPLAYED)):
        raise RuntimeError("events were lost or told out of order")
    return took


async def _chat(bench: Bench) -> str:
    headers = {"Authorization": f"Bearer {bench.token}"}
    return str((await bench.post("/api/chats", {}, headers))["chat_id"])


async def _open(bench: Bench, chat: str, after: int | None) -> aiohttp.ClientWebSocketResponse:
    url = f"{bench.api.replace('http', 'ws', 1)}/ws/{chat}?token={bench.token}"
    if after is not None:
        url += f"&after={after}"
    return await bench.http.ws_connect(url, max_msg_size=0)


async def _listen(socket: aiohttp.ClientWebSocketResponse) -> Listener:
    """Hear a turn to its end."""
    heard = Listener()
    async for message in socket:
        now = time.time()
        frame = json.loads(message.data)
        if frame["type"] == "agent.text_delta":
            text = frame["data"]["text"]
            heard.text += text
            stamps = map(float, _STAMP.findall(text))
            heard.pieces += [(stamp, now - stamp) for stamp in stamps]
        elif frame["type"] == "agent.error":
            raise RuntimeError(f"a turn failed: {frame['data']}")
        if frame["type"] == "agent.turn_complete":
            return heard
    raise RuntimeError("a socket was closed")


def _is_whole(heard: Listener) -> bool:
    words = _STAMP.sub("", heard.text).split()
    return words == [f"word{n:06d}" for n in range(_PIECES)] and len(heard.pieces) == _PIECES

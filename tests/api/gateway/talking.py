"""A client of a chat's socket, and the product behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from schema.domain.permissions import PermissionMode
from tests.api.live import Live
from tests.fakes.callers import bearer, token_of
from tests.fakes.model_server import Reply
from tests.harness.stack import Stack

Frame = dict[str, Any]


class Talk:
    """One socket; `frames` is all it was told, in order."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: list[Frame] = []

    async def next(self) -> Frame:
        async with asyncio.timeout(20):
            frame = json.loads(await self.socket.recv())
        self.frames.append(frame)
        return frame

    async def until(self, type_: str, count: int = 1) -> Frame:
        """Read up to the next frame of a type, or the `count`th from here."""
        while True:
            frame = await self.next()
            if frame["type"] == type_:
                count -= 1
                if count == 0:
                    return frame

    async def say(self, type_: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": type_, **fields}))

    async def silence(self) -> None:
        """Read what is on its way: a ping is answered behind it."""
        await self.say("ping")
        await self.until("pong")

    def of(self, *types: str) -> list[Frame]:
        return [frame for frame in self.frames if frame["type"] in types]

    @property
    def text(self) -> str:
        return "".join(frame["data"]["text"] for frame in self.of("agent.text_delta"))

    @property
    def durable(self) -> list[Frame]:
        """What is stored: each the first of its seq but for what goes before it."""
        passing = {"agent.text_delta", "agent.error", "pong", "session.ready"}
        passing |= {"agent.tool_decided", "agent.tool_voted", "session.cancelled"}
        return [frame for frame in self.frames if frame["type"] not in passing]


class Gateway:
    """The stack, its API, and whoever calls."""

    def __init__(self, live: Live, stack: Stack, http: httpx.AsyncClient) -> None:
        self.live = live
        self.stack = stack
        self.http = http

    async def call(self, method: str, path: str, caller: str = "admin", **body: Any) -> Any:
        return await self.http.request(method, path, json=body or None, headers=bearer(caller))

    async def chat(self, caller: str = "admin", **fields: Any) -> str:
        if "agent_id" not in fields:
            [agent] = await self.stack.agents("Ada")
            fields["agent_id"] = agent.id
        made = await self.call("POST", "/api/chats", caller, **fields)
        assert made.status_code == 201, made.text
        return made.json()["chat_id"]

    def url(self, chat_id: str, caller: str = "admin", **query: Any) -> str:
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        return f"{self.live.ws}/ws/{chat_id}?token={token_of(caller)}&{asked}"

    @asynccontextmanager
    async def talk(self, chat_id: str, caller: str = "admin", **query: Any) -> AsyncGenerator[Talk]:
        async with connect(self.url(chat_id, caller, **query)) as socket:
            talk = Talk(socket)
            assert (await talk.next())["type"] == "session.ready"
            yield talk

    async def mode(self, wanted: PermissionMode, **overrides: str) -> None:
        await self.stack.core.permissions.update(wanted.value, overrides)

    def script(self, *replies: Any) -> None:
        self.stack.model.script.extend(replies)


def calls(*named: tuple[str, str], text: str = "") -> Reply:
    return Reply(text=text, tool_calls=[(name, {"text": said}) for name, said in named])


def replies(*texts: str) -> Callable[[Any], Reply]:
    return lambda _: Reply(text=" ".join(texts))

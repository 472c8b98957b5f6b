"""The WebSocket channels: the same events, narrowed to what the path names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, cast

from fastapi import Query, WebSocket, WebSocketDisconnect
from pydantic import JsonValue

from api.deps import CoreDep, PrincipalDep
from api.event_stream import frame
from api.input import CheckedRouter
from api.stream import Hub, HubDep
from api.subscriptions import Channel, Ending, Subscription
from conclave.container import Core
from conclave.errors import NotFound, Unavailable
from schema.domain.identity import Principal

UNKNOWN_CHANNEL = 4004
TOO_SLOW = 4008
_RESTARTING = 1012
_TRY_AGAIN = 1013
_LAST_ID = 2**63 - 1
_LAST_WORDS_SECONDS = 2.0

router = CheckedRouter()


class _Socket:
    """One client: what it says is answered here, what happens is told to it."""

    def __init__(self, websocket: WebSocket, channel: str) -> None:
        self._websocket = websocket
        self._channel = channel
        self._sending = asyncio.Lock()

    async def say(self, type_: str, data: dict[str, JsonValue] | None = None) -> None:
        """Send a frame of the channel's own, not an event."""
        await self._send(
            {"type": type_, "data": data or {}, "timestamp": datetime.now(UTC).isoformat()}
        )

    async def tell(self, subscription: Subscription) -> None:
        """Pass on what happens until the subscription ends."""
        async with aclosing(subscription.items()) as items:
            async for item in items:
                await self._send(frame(item))

    async def answer(self) -> None:
        """Answer the client until it leaves."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text: object = message.get("text")
            await self._answer(text if isinstance(text, str) else "")

    async def _answer(self, text: str) -> None:
        try:
            said: object = json.loads(text)
        except (ValueError, RecursionError):
            await self.say("error", {"message": "Not JSON"})
            return
        if isinstance(said, dict) and cast("dict[str, object]", said).get("type") == "ping":
            await self.say("pong")
        else:
            await self.say("error", {"message": "Unknown message type"})

    async def _send(self, body: dict[str, JsonValue]) -> None:
        text = json.dumps({**body, "channel": self._channel}, ensure_ascii=False)
        async with self._sending:
            await self._websocket.send_text(text)


async def _serve(websocket: WebSocket, subscription: Subscription) -> int | None:
    """Serve until one side ends; return the code to close with, None when the client left."""
    socket = _Socket(websocket, subscription.channel.name)
    await socket.say("connection.established")
    tell = asyncio.create_task(socket.tell(subscription))
    answer = asyncio.create_task(socket.answer())
    ended = asyncio.create_task(subscription.wait_ended())
    tasks = {tell, answer, ended}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            await asyncio.wait({tell}, timeout=_LAST_WORDS_SECONDS)
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(tell, answer, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Unavailable):
            return _TRY_AGAIN
        if isinstance(outcome, WebSocketDisconnect):
            return None
        if isinstance(outcome, Exception):
            raise outcome
    if subscription.ending is None:
        return None
    return TOO_SLOW if subscription.ending is Ending.TOO_SLOW else _RESTARTING


async def _watch(
    websocket: WebSocket,
    hub: Hub,
    principal: Principal,
    find: Callable[[], Awaitable[Channel]],
    after: int | None = None,
) -> None:
    """Accept, so that the client learns from the close code what was wrong, and serve."""
    code: int | None
    with suppress(WebSocketDisconnect):
        await websocket.accept()
        try:
            async with hub.subscribe(await find(), principal, after=after) as subscription:
                code = await _serve(websocket, subscription)
        except NotFound:
            code = UNKNOWN_CHANNEL
        except Unavailable:
            code = _TRY_AGAIN
        if code is not None:
            await websocket.close(code)


async def _dashboard() -> Channel:
    return Channel("dashboard")


async def _circle(core: Core, name: str) -> Channel:
    if "\x00" in name:
        raise NotFound("No circle has such a name")
    circle = await core.circles.get(name)
    return Channel(f"circles/{circle.name}", circle_id=circle.id)


async def _agent(core: Core, agent_id: int) -> Channel:
    agent = await core.agents.get(_storable(agent_id))
    return Channel(f"agents/{agent.id}", agent_id=agent.id)


async def _conversation(core: Core, conversation_id: int, principal: Principal) -> Channel:
    found = await core.conversations.get(_storable(conversation_id), principal)
    return Channel(f"conversations/{found.id}", conversation_id=found.id)


def _storable(id_: int) -> int:
    if id_ > _LAST_ID:
        raise NotFound(f"{id_} not found")
    return id_


@router.websocket("/ws/dashboard")
async def watch_dashboard(websocket: WebSocket, hub: HubDep, principal: PrincipalDep) -> None:
    """Everything the caller may see, text deltas excepted."""
    await _watch(websocket, hub, principal, _dashboard)


@router.websocket("/ws/circles/{name}")
async def watch_circle(
    websocket: WebSocket, name: str, core: CoreDep, hub: HubDep, principal: PrincipalDep
) -> None:
    """What happens in a circle."""
    await _watch(websocket, hub, principal, partial(_circle, core, name))


@router.websocket("/ws/agents/{agent_id:int}")
async def watch_agent(
    websocket: WebSocket, agent_id: int, core: CoreDep, hub: HubDep, principal: PrincipalDep
) -> None:
    """What an agent does, and the conversations it takes part in."""
    await _watch(websocket, hub, principal, partial(_agent, core, agent_id))


@router.websocket("/ws/conversations/{conversation_id:int}")
async def watch_conversation(
    websocket: WebSocket,
    conversation_id: int,
    core: CoreDep,
    hub: HubDep,
    principal: PrincipalDep,
    after: Annotated[int | None, Query(ge=0, le=_LAST_ID)] = None,
) -> None:
    """A conversation; `after` replays what came after that seq."""
    find = partial(_conversation, core, conversation_id, principal)
    await _watch(websocket, hub, principal, find, after)


@router.websocket("/ws/{channel:path}")
async def refuse_unknown(websocket: WebSocket, channel: str) -> None:
    """Close what no other route knows."""
    with suppress(WebSocketDisconnect):
        await websocket.accept()
        await websocket.close(UNKNOWN_CHANNEL, f"Unknown channel {channel[:80]}")

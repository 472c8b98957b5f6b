"""The WebSocket channels: the same events, narrowed to what the path names."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, cast

from fastapi import Query, WebSocket, WebSocketDisconnect
from pydantic import JsonValue

from api.deps import CoreDep, PrincipalDep
from api.event_stream import frame
from api.input import CheckedRouter
from api.sockets import UNKNOWN, serve_socket
from api.stream import HubDep
from api.subscriptions import Channel, Subscription
from conclave.container import Core
from conclave.errors import NotFound
from schema.domain.identity import Principal

_LAST_ID = 2**63 - 1

router = CheckedRouter()


class _Socket:
    """One client: what it says is answered here, what happens is told to it."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._channel = ""
        self._sending = asyncio.Lock()

    async def greet(self, subscription: Subscription) -> None:
        """Say that the channel is open; every frame names it."""
        self._channel = subscription.channel.name
        await self._say("connection.established")

    async def _say(self, type_: str, data: dict[str, JsonValue] | None = None) -> None:
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
            await self._say("error", {"message": "Not JSON"})
            return
        if isinstance(said, dict) and cast("dict[str, object]", said).get("type") == "ping":
            await self._say("pong")
        else:
            await self._say("error", {"message": "Unknown message type"})

    async def _send(self, body: dict[str, JsonValue]) -> None:
        text = json.dumps({**body, "channel": self._channel}, ensure_ascii=False)
        async with self._sending:
            await self._websocket.send_text(text)


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
    await serve_socket(websocket, hub, principal, _Socket(websocket), _dashboard)


@router.websocket("/ws/circles/{name}")
async def watch_circle(
    websocket: WebSocket, name: str, core: CoreDep, hub: HubDep, principal: PrincipalDep
) -> None:
    """What happens in a circle."""
    await serve_socket(websocket, hub, principal, _Socket(websocket), partial(_circle, core, name))


@router.websocket("/ws/agents/{agent_id:int}")
async def watch_agent(
    websocket: WebSocket, agent_id: int, core: CoreDep, hub: HubDep, principal: PrincipalDep
) -> None:
    """What an agent does, and the conversations it takes part in."""
    await serve_socket(
        websocket, hub, principal, _Socket(websocket), partial(_agent, core, agent_id)
    )


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
    await serve_socket(websocket, hub, principal, _Socket(websocket), find, after)


@router.websocket("/ws/{channel:path}")
async def refuse_unknown(websocket: WebSocket, channel: str) -> None:
    """Close what no other route knows."""
    with suppress(WebSocketDisconnect):
        await websocket.accept()
        await websocket.close(UNKNOWN, f"Unknown channel {channel[:80]}")

"""How a WebSocket of any dialect is served from its first frame to its close code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from fastapi import WebSocket, WebSocketDisconnect

from api.stream import Hub
from api.subscriptions import Channel, Ending, Subscription, until_one_ends
from conclave.errors import NotFound, Unavailable
from schema.domain.identity import Principal

UNKNOWN = 4004
TOO_SLOW = 4008
RESTARTING = 1012
TRY_AGAIN = 1013


class SocketClient(Protocol):
    """One client of a channel, in the words of its dialect."""

    async def greet(self, subscription: Subscription) -> None:
        """Say the first frame."""
        ...

    async def tell(self, subscription: Subscription) -> None:
        """Pass on what happens until the subscription ends."""
        ...

    async def answer(self) -> None:
        """Answer what the client says, until it leaves."""
        ...


async def serve_socket(
    websocket: WebSocket,
    hub: Hub,
    principal: Principal,
    client: SocketClient,
    find: Callable[[], Awaitable[Channel]],
    after: int | None = None,
) -> None:
    """Accept, so that the client learns from the close code what was wrong, and serve.

    `find` raises `NotFound` for a channel that the principal does not have; `after` replays what
    came after that seq.
    """
    code: int | None
    with suppress(WebSocketDisconnect):
        await websocket.accept()
        try:
            async with hub.subscribe(await find(), principal, after=after) as subscription:
                await client.greet(subscription)
                code = await _serve(client, subscription)
        except NotFound:
            code = UNKNOWN
        except Unavailable:
            code = TRY_AGAIN
        if code is not None:
            await websocket.close(code)


async def _serve(client: SocketClient, subscription: Subscription) -> int | None:
    """Serve until one side ends; return the code to close with, None when the client left."""
    for outcome in await until_one_ends(subscription, client.tell(subscription), client.answer()):
        if isinstance(outcome, Unavailable):
            return TRY_AGAIN
        if isinstance(outcome, WebSocketDisconnect):
            return None
        if isinstance(outcome, Exception):
            raise outcome
    if subscription.ending is None:
        return None
    return TOO_SLOW if subscription.ending is Ending.TOO_SLOW else RESTARTING

"""The socket of one chat, seen as one stream that outlives its connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass

from pydantic import JsonValue, ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from conclave.terminal.errors import ServerRefused
from conclave.terminal.server import Server
from conclave.terminal.wire import Frame

_LARGEST_FRAME = 16 * 1024 * 1024
_FIRST_DELAY_SECONDS = 0.25
_LONGEST_DELAY_SECONDS = 10.0
_TOLD_ONCE = frozenset(
    {
        "agent.error",
        "agent.text_delta",
        "agent.tool_decided",
        "agent.tool_voted",
        "pong",
        "session.cancelled",
        "session.ready",
    }
)
"""Frames that are not counted: their `seq` is that of the last counted one."""
_FINAL = {
    4001: "The token does not hold",
    4003: "The server does not let this caller in",
    4004: "There is no such chat",
    401: "The token does not hold",
    403: "The server does not let this caller in",
    404: "There is no such chat, or no such server",
}

_silent = logging.getLogger("conclave.terminal.stream")
_silent.disabled = True
"""The library logs the address it asks for, and the token stands in it."""


@dataclass(frozen=True)
class Lost:
    """The connection is gone; it is tried again."""

    reason: str


def delays() -> Iterator[float]:
    """Give ever longer waits, each a little by chance: a restart is not stormed."""
    delay = _FIRST_DELAY_SECONDS
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(delay * 2, _LONGEST_DELAY_SECONDS)


class ChatStream:
    """Every counted frame once and in order, over as many connections as it takes.

    `after` is the last frame already known: 0 for a new chat, None to begin with what happens
    from now on. `patience` bounds the seconds without any connection; None bears any.
    """

    def __init__(
        self, server: Server, chat_id: str, *, after: int | None, patience: float | None = None
    ) -> None:
        self._server = server
        self._chat_id = chat_id
        self._after = after
        self._patience = patience
        self._connection: ClientConnection | None = None

    async def items(self) -> AsyncGenerator[Frame | Lost]:
        """Give frames, and `Lost` between connections.

        Raises `ServerRefused` where trying again cannot help, or where patience is at its end.
        """
        waits = delays()
        clock = asyncio.get_running_loop().time
        alone_since = clock()
        while True:
            reason = "the connection was closed"
            try:
                async with self._connect() as connection:
                    self._connection = connection
                    with contextlib.suppress(ConnectionClosed):
                        async for content in connection:
                            frame = self._news(content)
                            if frame is None:
                                continue
                            if frame.type != "session.ready":  # a server may greet and hang up
                                waits = delays()
                            yield frame
                _raise_final(connection.close_code)
                alone_since = clock()
            except InvalidStatus as error:
                _raise_final(error.response.status_code)
                reason = f"the server answered {error.response.status_code}"
            except (OSError, TimeoutError, WebSocketException):
                reason = "the server cannot be reached"
            finally:
                self._connection = None
            if self._patience is not None and clock() - alone_since > self._patience:
                raise ServerRefused(f"Given up: {reason}", 503)
            yield Lost(reason)
            await asyncio.sleep(next(waits))

    async def send(self, message: dict[str, JsonValue]) -> bool:
        """Send a message; whether it went out, which is not yet whether it arrived."""
        if self._connection is None:
            return False
        try:
            await self._connection.send(json.dumps(message))
        except ConnectionClosed:
            return False
        return True

    def _connect(self) -> connect:
        return connect(
            self._server.socket_url(self._chat_id, self._after),
            max_size=_LARGEST_FRAME,
            logger=_silent,
            proxy=None if self._server.is_loopback else True,
            user_agent_header=None,
        )

    def _news(self, content: str | bytes) -> Frame | None:
        """Return a frame that was not had before; a counted one moves the place to go on from."""
        try:
            frame = Frame.model_validate_json(content)
        except ValidationError:
            return None  # nothing this product sends
        if frame.type == "session.ready" and self._after is None:
            self._after = frame.seq  # from here on nothing is missed
        if frame.seq is None or frame.type in _TOLD_ONCE:
            return frame
        if self._after is not None and frame.seq <= self._after:
            return None
        self._after = frame.seq
        return frame


def _raise_final(code: int | None) -> None:
    if code in _FINAL:
        raise ServerRefused(_FINAL[code], code)

"""Server-sent events: how a subscription goes over HTTP (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, suppress
from datetime import UTC, datetime

from pydantic import JsonValue
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.subscriptions import Item, Subscription, until_one_ends
from conclave.errors import Unavailable
from schema.domain.events import Event, EventType

HEARTBEAT_SECONDS = 15.0
_RETRY_MILLISECONDS = 1000


def frame(item: Item) -> dict[str, JsonValue]:
    """Render an item as {type, data, timestamp}, with `seq` where it is stored."""
    if isinstance(item, Event):
        return {
            "type": item.type.value,
            "data": item.data,
            "timestamp": item.created_at.astimezone(UTC).isoformat(),
            "seq": item.seq,
        }
    return {
        "type": EventType.TEXT_DELTA.value,
        "data": item.model_dump(mode="json", exclude={"owner"}),
        "timestamp": datetime.now(UTC).isoformat(),
    }


def encode(item: Item) -> bytes:
    """Write an item as one server-sent event; text deltas have no id, they cannot be replayed."""
    body = frame(item)
    place = f"id: {item.seq}\n" if isinstance(item, Event) else ""
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return f"{place}event: {body['type']}\ndata: {data}\n\n".encode()


class EventStream(Response):
    """Streams a subscription until it ends, the client leaves or lags too far behind."""

    media_type = "text/event-stream"

    def __init__(self, subscription: Subscription, heartbeat: float = HEARTBEAT_SECONDS) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._subscription = subscription
        self._heartbeat = heartbeat
        self._sending = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head at once, then whatever happens."""
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        told, *_ = await until_one_ends(
            self._subscription, self._tell(send), self._beat(send), _wait_left(receive)
        )
        if isinstance(told, Exception):
            raise told

    async def _tell(self, send: Send) -> None:
        await self._send(send, f"retry: {_RETRY_MILLISECONDS}\n\n".encode())
        # A record that cannot be read just now ends the stream: the client comes back for it.
        with suppress(Unavailable):
            async with aclosing(self._subscription.items()) as items:
                async for item in items:
                    await self._send(send, encode(item))
        await self._send(send, b"", more=False)

    async def _beat(self, send: Send) -> None:
        while True:
            await asyncio.sleep(self._heartbeat)
            await self._send(send, b": still here\n\n")

    async def _send(self, send: Send, body: bytes, *, more: bool = True) -> None:
        async with self._sending:
            await send({"type": "http.response.body", "body": body, "more_body": more})


async def _wait_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

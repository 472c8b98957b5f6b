"""The event bus of a single process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from schema.domain.events import Delta

_QUEUE_LIMIT = 10_000


class MemoryBus:
    """Implements `EventBus` between the tasks of one event loop; nothing is coalesced."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[Delta | None]] = set()

    async def start(self) -> None:
        """Do nothing: there is nothing to connect to."""

    async def close(self) -> None:
        """Do nothing: there is nothing to disconnect."""

    def poke(self) -> None:
        """Say that events were committed."""
        self._tell(None)

    def publish(self, delta: Delta) -> None:
        """Pass on a piece of text."""
        self._tell(delta)

    def flush(self, conversation_id: int) -> None:
        """Do nothing: no text is held back."""

    async def listen(self) -> AsyncGenerator[Delta | None]:
        """Yield deltas, and None when events may be waiting: at the start too."""
        queue: asyncio.Queue[Delta | None] = asyncio.Queue(_QUEUE_LIMIT)
        self._listeners.add(queue)
        try:
            yield None
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)

    def _tell(self, item: Delta | None) -> None:
        for queue in self._listeners:
            if not queue.full():
                queue.put_nowait(item)

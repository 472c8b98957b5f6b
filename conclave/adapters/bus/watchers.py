"""Who in this process waits for news of one stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress


class StreamWatchers:
    """Implements `StreamWatch`. Whoever reads the log tells it; where nobody does, it times out."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self.on_wait: Callable[[], None] | None = None
        """Called when somebody begins to wait."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    async def changed(self, stream: str, timeout: float) -> None:
        """Return at the stream's next event, or after `timeout` seconds."""
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(stream, set()).add(news)
        if self.on_wait is not None:
            self.on_wait()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await news
        finally:
            self._forget(stream, news)

    def tell(self, stream: str) -> None:
        """Wake those who wait for this stream."""
        for news in self._waiting.get(stream, ()):
            if not news.done():
                news.set_result(None)

    def tell_all(self) -> None:
        """Wake everybody: what happened meanwhile is not known."""
        for stream in self._waiting:
            self.tell(stream)

    def _forget(self, stream: str, news: asyncio.Future[None]) -> None:
        waiting = self._waiting[stream]
        waiting.discard(news)
        if not waiting:
            del self._waiting[stream]

"""The task of a process that tells the others, over whatever connection it is given."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import Protocol

from conclave.adapters.bus.coalescing import Coalescer, Parcel
from conclave.logging import get_logger
from schema.domain.events import Delta

log = get_logger(__name__)

_FIRST_WAIT = 0.1
_LONGEST_WAIT = 2.0
_SEND_TIMEOUT = 5.0
_CLOSE_TIMEOUT = 1.0


class Backoff:
    """Waits longer after each failure, 0.1 s to 2 s."""

    def __init__(self) -> None:
        self._wait = _FIRST_WAIT

    def reset(self) -> None:
        """Start again from the shortest wait."""
        self._wait = _FIRST_WAIT

    async def pause(self) -> None:
        """Wait once."""
        await asyncio.sleep(self._wait)
        self._wait = min(self._wait * 2, _LONGEST_WAIT)


class Wire(Protocol):
    """A connection that can tell; both methods raise when it cannot."""

    async def open(self) -> None:
        """Connect anew, closing what was open."""
        ...

    async def send(self, parcel: Parcel) -> None:
        """Tell the parcel's text, then its poke."""
        ...

    async def close(self) -> None:
        """Disconnect. Does not raise."""
        ...


class Notifier:
    """The telling half of a bus: one task sends what is poked and published, so that no caller
    waits or fails."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._waiting = Coalescer()
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def poke(self) -> None:
        """Say that events were committed."""
        self._waiting.poke()
        self.start()

    def publish(self, delta: Delta) -> None:
        """Pass on a piece of text."""
        # Half a surrogate pair, as a model may send it, cannot be encoded.
        clean = delta.text.encode(errors="replace").decode()
        if clean != delta.text:
            delta = delta.model_copy(update={"text": clean})
        self._waiting.add(delta, asyncio.get_running_loop().time())
        self.start()

    def flush(self, conversation_id: int) -> None:
        """Hold back no text of this conversation."""
        if self._task is not None:
            self._waiting.flush(conversation_id, asyncio.get_running_loop().time())
            self._woken.set()

    def start(self) -> None:
        """Make sure that the task runs; it connects at once."""
        self._woken.set()
        if self._task is None and not self._closing:
            self._task = asyncio.create_task(self._run(), name="bus-notifier")

    async def close(self) -> None:
        """Tell what waits, if that can be done in a second, and disconnect."""
        self._closing = True
        task, self._task = self._task, None
        if task is None:
            return
        self._woken.set()
        await asyncio.wait({task}, timeout=_CLOSE_TIMEOUT)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await self._wire.close()

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            try:
                async with asyncio.timeout(_SEND_TIMEOUT):
                    await self._wire.open()
                backoff.reset()
                await self._tell()
                return
            except Exception as error:
                log.warning("notifier_disconnected", error=str(error) or type(error).__name__)
                if self._closing:
                    return
                self._waiting.drop_text()
                await backoff.pause()
                # Something may have been committed whose poke was lost with the connection.
                self._waiting.poke()

    async def _tell(self) -> None:
        """Send until the connection fails, or all is sent and nothing more is to come."""
        loop = asyncio.get_running_loop()
        while True:
            wait = self._waiting.next_due() - loop.time()
            if wait == math.inf and self._closing:
                return
            if wait > 0:
                self._woken.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if wait == math.inf else wait):
                        await self._woken.wait()
                continue
            parcel = self._waiting.take(loop.time())
            if parcel:
                async with asyncio.timeout(_SEND_TIMEOUT):
                    await self._wire.send(parcel)

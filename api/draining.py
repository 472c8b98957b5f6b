"""Going down gently: readiness says so before the server stops taking connections."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


class Draining:
    """Set once, when the process has been told to stop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def is_on(self) -> bool:
        """Whether the process is about to stop."""
        return self._event.is_set()

    def begin(self) -> None:
        """Say that the process is about to stop; wakes whoever waits for it."""
        self._event.set()

    async def wait(self) -> None:
        """Return when draining begins. Long answers race against this and end early."""
        await self._event.wait()


@contextmanager
def drain_on_sigterm(draining: Draining, grace: float) -> Generator[None]:
    """Put `grace` seconds between SIGTERM and the server's own handler.

    The server closes its sockets at once when it is told to stop, so without them nobody could
    read from the readiness probe that it drains. A second SIGTERM cuts the wait short. Does
    nothing outside the main thread, or where no handler is installed.
    """
    previous = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return
    server_handler = previous
    loop = asyncio.get_running_loop()

    def handle(number: int, frame: FrameType | None) -> None:
        if draining.is_on or grace <= 0:
            draining.begin()
            server_handler(number, frame)
            return
        draining.begin()
        loop.call_soon_threadsafe(loop.call_later, grace, server_handler, number, None)

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)

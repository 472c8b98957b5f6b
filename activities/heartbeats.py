"""Heartbeats beside the work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

from temporalio import activity

_EVERY_SECONDS = 1.0


@asynccontextmanager
async def heartbeats(
    *, every: float = _EVERY_SECONDS, tell: Callable[[], str] | None = None
) -> AsyncGenerator[None]:
    """Send one every so many seconds until the block ends, with what `tell` says just then."""

    async def beat() -> None:
        while True:
            # Not at once: most of what is quick would pay for a heartbeat nobody needs.
            await asyncio.sleep(every)
            activity.heartbeat(*(() if tell is None else (tell(),)))

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

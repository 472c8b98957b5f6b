"""Heartbeats beside the work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from temporalio import activity

_HEARTBEAT_SECONDS = 1.0


@asynccontextmanager
async def heartbeats() -> AsyncGenerator[None]:
    """Send one every second until the block ends."""

    async def beat() -> None:
        while True:
            # Not at once: most of what is quick would pay for a heartbeat nobody needs.
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            activity.heartbeat()

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

"""Slots of activities: as many as are set, and no more begun than the event loop takes up.

The SDK hands activities to the loop one at a time, some rounds of it each. Where many begin at
once, the others wait for that in its core, while the server has noted that they run: heartbeats
are missed before there is anybody to send them, and models are asked twice.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from temporalio.worker import (
    CustomSlotSupplier,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
)

POLLS = 5
"""Requests for work that are open at once: each holds a slot."""
_WAITING = POLLS + 8
"""Slots that may be held by what is not begun: the loop takes up 20 to 50 activities a second."""


class ActivitySlots(CustomSlotSupplier):
    """Gives slots while fewer than `most` are held and the loop keeps up.

    Made on the loop of the worker; the SDK calls all but `reserve_slot` from its own threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._asking: deque[asyncio.Future[SlotPermit]] = deque()
        self._lock = threading.Lock()
        self._held = 0
        self._waiting: set[SlotPermit] = set()
        """Held by polls and by activities that the loop has not taken up."""
        self._handed_over: dict[SlotPermit, None] = {}
        """Those of them that are on their way to the loop, oldest first."""

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        """Wait for a slot."""
        permit = self._take()
        if permit is not None:
            return permit
        asking = self._loop.create_future()
        self._asking.append(asking)
        self._serve()  # one may have been given back since
        try:
            return await asking
        except asyncio.CancelledError:
            if asking.done() and not asking.cancelled():
                self._give_back(asking.result())
            raise

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        """Give a slot, if there is one."""
        return self._take()

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        """Note that an activity is on its way to the loop."""
        with self._lock:
            self._handed_over[ctx.permit] = None

    def taken_up(self) -> None:
        """Note that the loop has begun an activity. Which slot is its is not known: the oldest."""
        with self._lock:
            oldest = next(iter(self._handed_over), None)
            if oldest is not None:
                del self._handed_over[oldest]
                self._waiting.discard(oldest)
        self._serve()

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        """Take a slot back, also of an activity that never began."""
        self._give_back(ctx.permit)
        if self._asking and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._serve)

    def _take(self) -> SlotPermit | None:
        with self._lock:
            if self._held >= self._most or len(self._waiting) >= _WAITING:
                return None
            self._held += 1
            permit = SlotPermit()
            self._waiting.add(permit)
            return permit

    def _give_back(self, permit: SlotPermit) -> None:
        with self._lock:
            self._held -= 1
            self._handed_over.pop(permit, None)
            self._waiting.discard(permit)

    def _serve(self) -> None:
        """Give free slots to those who ask; on the loop."""
        while self._asking:
            if self._asking[0].done():  # cancelled
                self._asking.popleft()
            elif (permit := self._take()) is not None:
                self._asking.popleft().set_result(permit)
            else:
                return

"""What was read from the record and is believed for a moment: one query a second a process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

FRESH_SECONDS = 1.0
"""How long it is believed: what another process changed holds here a second later."""
Value = TypeVar("Value")


class Believed(Generic[Value]):
    """A value that `read` returns; `first` stands in for it until it was read once."""

    def __init__(
        self,
        read: Callable[[], Awaitable[Value]],
        first: Value,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._clock = clock
        self._value = first
        self._read_at = float("-inf")
        self._changes = 0
        self._reading = asyncio.Lock()

    @property
    def last(self) -> Value:
        """The value as last known, however long ago that was."""
        return self._value

    async def get(self) -> Value:
        """Return the value, read at most a second ago. Raises what `read` raises."""
        if self._is_stale():
            async with self._reading:
                if self._is_stale():
                    await self._refresh()
        return self._value

    async def refreshed(self) -> Value:
        """Return the value read just now."""
        async with self._reading:
            await self._refresh()
        return self._value

    def forget(self) -> None:
        """Believe it no longer: this process has just changed it."""
        self._changes += 1
        self._read_at = float("-inf")

    def replace(self, value: Value) -> None:
        """Take what this process has just stored as last known, and read it again when asked."""
        self._value = value
        self.forget()

    async def _refresh(self) -> None:
        while True:
            changes, asked_at = self._changes, self._clock()
            value = await self._read()
            if changes == self._changes:  # else it may have been read before the change
                self._value, self._read_at = value, asked_at
                return

    def _is_stale(self) -> bool:
        return self._clock() - self._read_at >= FRESH_SECONDS

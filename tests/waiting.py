"""The one way tests wait: for a condition, with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeVar, cast

T = TypeVar("T")


async def until(
    condition: Callable[[], T | Awaitable[T]],
    *,
    timeout: float = 10.0,
    every: float = 0.02,
    what: str = "",
) -> T:
    """Return the condition's first true value; fail the test when there is none in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        outcome = condition()
        value = await cast("Awaitable[T]", outcome) if isawaitable(outcome) else cast("T", outcome)
        if value:
            return value
        if loop.time() >= deadline:
            raise AssertionError(f"Waited {timeout} s for {what or condition!r}; last: {value!r}")
        await asyncio.sleep(every)

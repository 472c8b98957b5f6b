"""A project's files as activities."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from temporalio import activity

from activities.failures import translated
from conclave.workspaces.checkout import CheckoutService
from schema.payloads import names
from schema.payloads.checkout import (
    CheckoutInput,
    CheckoutResult,
    CheckoutSettleInput,
    RemovalInput,
    RemovalResult,
)

_HEARTBEAT_SECONDS = 2.0


class GitActivities:
    """Makes and removes workspaces."""

    def __init__(self, checkouts: CheckoutService) -> None:
        self._checkouts = checkouts

    @activity.defn(name=names.CLONE_ACTIVITY)
    async def clone(self, asked: CheckoutInput) -> CheckoutResult:
        """Make a project's checkout.

        May run twice, also at once: each attempt works in a place of its own, and the first that
        is whole is put in place. Heartbeats with git's progress every two seconds (timeout:
        `policies.CLONE_HEARTBEAT_TIMEOUT`); a cancel ends git. Typed failures: `remote_refused`,
        `url_refused` and `checkout_given_up` are final, `remote_unreachable` is tried again.
        """
        beat = _Beat()
        async with beat.kept():
            with translated():
                return await self._checkouts.clone(
                    asked, attempt=activity.info().attempt, progress=beat.note
                )

    @activity.defn(name=names.SETTLE_CHECKOUT_ACTIVITY)
    async def settle(self, asked: CheckoutSettleInput) -> CheckoutResult:
        """Store that a checkout failed. May run twice; short, without heartbeats."""
        with translated():
            return await self._checkouts.settle(asked)

    @activity.defn(name=names.REMOVE_FILES_ACTIVITY)
    async def remove(self, asked: RemovalInput) -> RemovalResult:
        """Remove a deleted project's files. May run twice, also at once; heartbeats as `clone`."""
        async with _Beat().kept():
            with translated():
                await self._checkouts.remove(asked.project_id)
        return RemovalResult()


class _Beat:
    """Heartbeats that tell the last line of progress."""

    def __init__(self) -> None:
        self._line = ""

    def note(self, line: str) -> None:
        """Take a line to be told with the next beat; what the remote itself says is not."""
        if not line.startswith("remote:"):
            self._line = line

    @asynccontextmanager
    async def kept(self) -> AsyncGenerator[None]:
        """Beat until the block ends."""

        async def beat() -> None:
            while True:
                activity.heartbeat(self._line)
                await asyncio.sleep(_HEARTBEAT_SECONDS)

        task = asyncio.create_task(beat())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

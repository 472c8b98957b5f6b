"""A project's files as activities."""

from __future__ import annotations

from temporalio import activity

from activities.failures import translated
from activities.heartbeats import heartbeats
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
        progress = _Progress()
        async with heartbeats(every=_HEARTBEAT_SECONDS, tell=progress.last):
            with translated():
                return await self._checkouts.clone(
                    asked, attempt=activity.info().attempt, progress=progress.note
                )

    @activity.defn(name=names.SETTLE_CHECKOUT_ACTIVITY)
    async def settle(self, asked: CheckoutSettleInput) -> CheckoutResult:
        """Store that a checkout failed. May run twice; short, without heartbeats."""
        with translated():
            return await self._checkouts.settle(asked)

    @activity.defn(name=names.REMOVE_FILES_ACTIVITY)
    async def remove(self, asked: RemovalInput) -> RemovalResult:
        """Remove a deleted project's files. May run twice, also at once; heartbeats as `clone`."""
        async with heartbeats(every=_HEARTBEAT_SECONDS):
            with translated():
                await self._checkouts.remove(asked.project_id)
        return RemovalResult()


class _Progress:
    """The last line of git's progress."""

    def __init__(self) -> None:
        self._line = ""

    def note(self, line: str) -> None:
        """Take a line to be told with the next heartbeat; what the remote itself says is not."""
        if not line.startswith("remote:"):
            self._line = line

    def last(self) -> str:
        """Return it, empty before the first."""
        return self._line

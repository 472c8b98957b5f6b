"""Firings of triggers, and the look at thresholds, as activities."""

from __future__ import annotations

from temporalio import activity

from activities.failures import translated
from activities.heartbeats import heartbeats
from conclave.triggers.firing import FiringService
from conclave.triggers.thresholds import ThresholdService
from schema.payloads import names
from schema.payloads.triggers import (
    ActInput,
    CheckInput,
    CheckResult,
    ClaimInput,
    ClaimResult,
    FiringResult,
    SettleInput,
)


class TriggerActivities:
    """What the workflows of triggers ask for."""

    def __init__(self, firings: FiringService, thresholds: ThresholdService) -> None:
        self._firings = firings
        self._thresholds = thresholds

    @activity.defn(name=names.CLAIM_FIRING_ACTIVITY)
    async def claim(self, asked: ClaimInput) -> ClaimResult:
        """Claim a firing's row. May run twice; short, without heartbeats."""
        with translated():
            return await self._firings.claim(asked)

    @activity.defn(name=names.ACT_ACTIVITY)
    async def act(self, asked: ActInput) -> FiringResult:
        """Do what the trigger is for, and end the firing.

        May run twice, also at once. What is stored is stored once; a call to somebody else's
        server may be made again, under the same `webhook-id`, where a worker ended during it.
        Heartbeats each second (timeout for calls: `policies.HEARTBEAT_TIMEOUT`).
        """
        async with heartbeats():
            with translated():
                return await self._firings.act(asked)

    @activity.defn(name=names.SETTLE_FIRING_ACTIVITY)
    async def settle(self, asked: SettleInput) -> FiringResult:
        """Store that a firing failed. May run twice; short, without heartbeats."""
        with translated():
            return await self._firings.settle(asked)

    @activity.defn(name=names.CHECK_THRESHOLDS_ACTIVITY)
    async def check(self, asked: CheckInput) -> CheckResult:
        """Look at every threshold of a rhythm. May run twice; short, without heartbeats."""
        with translated():
            return await self._thresholds.check(asked)

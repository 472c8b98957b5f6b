"""Activities on the record of conversations. Each may run twice: they read, or they set."""

from __future__ import annotations

from temporalio import activity

from activities.failures import translated
from conclave.conversations.record import ConversationRecord
from schema.payloads import names
from schema.payloads.conversations import LookInput, LookResult, SettleInput, SettleResult
from schema.payloads.tools import FinishInput, FinishResult


class ConversationActivities:
    """Short ones, without heartbeats; `policies.RECORD_TIMEOUT` bounds them."""

    def __init__(self, record: ConversationRecord) -> None:
        self._record = record

    @activity.defn(name=names.LOOK_ACTIVITY)
    async def look(self, asked: LookInput) -> LookResult:
        """Say what the record says of a conversation."""
        with translated():
            return await self._record.look(asked)

    @activity.defn(name=names.FINISH_ACTIVITY)
    async def finish(self, asked: FinishInput) -> FinishResult:
        """Close a turn that ends without a last word."""
        with translated():
            return await self._record.finish(asked)

    @activity.defn(name=names.SETTLE_ACTIVITY)
    async def settle(self, asked: SettleInput) -> SettleResult:
        """Store how a turn or a conversation ended without a reply."""
        with translated():
            return await self._record.settle(asked)

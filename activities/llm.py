"""The model call as an activity."""

from __future__ import annotations

from temporalio import activity

from activities.failures import translated
from activities.heartbeats import heartbeats
from conclave.conversations.turns import TurnService
from schema.payloads import names
from schema.payloads.agent_turn import CompleteInput, CompleteResult


class LLMActivities:
    """Calls models for turns."""

    def __init__(self, turns: TurnService) -> None:
        self._turns = turns

    @activity.defn(name=names.COMPLETE_ACTIVITY)
    async def complete(self, call: CompleteInput) -> CompleteResult:
        """Make one model call and commit its reply.

        May run twice: a reply is committed once per (execution, turn, step), a second run
        returns it. Where the conversation must be compacted first, it makes that call instead and
        answers COMPACTED. Heartbeats every second (timeout: `policies.HEARTBEAT_TIMEOUT`), so
        that a killed worker is noticed and a cancel arrives. Typed failures: `provider_refused`
        and `credentials_refused` are final; `provider_unavailable`, `provider_timeout` and
        `unavailable` are tried again, and so is `circuit_open` where the call waits for its
        provider's circuit: nothing was sent then.
        """
        return await self._complete(call)

    @activity.defn(name=names.COMPACT_ACTIVITY)
    async def compact(self, call: CompleteInput) -> CompleteResult:
        """Compact a conversation between two turns (step 0), as far as one model call goes.

        May run twice, and fails, as `complete`: a summary is stored once per message it reaches
        to. Answers COMPACTED until the request is answered.
        """
        return await self._complete(call)

    async def _complete(self, call: CompleteInput) -> CompleteResult:
        async with heartbeats():
            with translated():
                return await self._turns.complete(call, activity.info().attempt)

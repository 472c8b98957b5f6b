"""Summarising the beginning of a conversation: one model call, around which a crash loses nothing.

prepare → the model call → commit, as a turn's own call: reserved before it is sent, fenced, and
settled at its worst case where it was cut. The summary is stored once per message it reaches to.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pydantic import JsonValue

from conclave.conversations.compaction_repository import CompactionRepository, Tries
from conclave.conversations.context import Compaction, Context, Round
from conclave.conversations.errors import CompactionFailed, LateAttempt
from conclave.conversations.model_admission import verdict_of
from conclave.conversations.rendering import private_owner_of
from conclave.conversations.reservations import Reservations, Reserved
from conclave.conversations.summary import kept_summary
from conclave.conversations.turn_repository import TurnRepository
from conclave.db import Database, Transaction
from conclave.errors import ConclaveError
from conclave.events import EventLog
from conclave.mailbox import Mailbox
from conclave.ports.breakers import Breakers
from conclave.ports.costs import Budgets
from conclave.ports.models import ModelGateway
from schema.domain.compaction import Compacted
from schema.domain.events import EventDraft, EventType, conversation_stream
from schema.domain.inbox import InboxStatus
from schema.domain.llm import ModelReply
from schema.payloads.agent_turn import CompleteInput

SUMMARY_TRIES = 3
"""How often a provider that cannot answer is asked for one summary. After that a turn goes on
without it: what does not fit is cut off."""


@dataclass(frozen=True)
class PreparedSummary:
    """A summarising call whose reservation is committed. It never leaves the process."""

    call: CompleteInput
    reserved: Reserved
    context: Context
    round: Round
    tries: Tries

    @property
    def call_id(self) -> int:
        """The call's row."""
        return self.reserved.call_id

    @property
    def tokens_before(self) -> int:
        """The size of the prompt before the first round."""
        before = self.context.unfinished
        return self.context.tokens if before is None else before.tokens_before

    @property
    def turns_removed(self) -> int:
        """Exchanges that all rounds up to this one removed."""
        before = self.context.unfinished
        return self.round.turns_removed + (0 if before is None else before.turns_removed)


class Compactor:
    """Compacts for turns, and between them where `call.step` is 0: a request is answered then."""

    def __init__(
        self,
        db: Database,
        events: EventLog,
        mailbox: Mailbox,
        gateway: ModelGateway,
        breakers: Breakers,
        reservations: Reservations,
        budgets: Budgets,
    ) -> None:
        self._db = db
        self._events = events
        self._mailbox = mailbox
        self._gateway = gateway
        self._breakers = breakers
        self._reservations = reservations
        self._budgets = budgets
        self._turns = TurnRepository()
        self._compactions = CompactionRepository()

    async def prepare(
        self, tx: Transaction, call: CompleteInput, attempt: int, context: Context, *, prompts: int
    ) -> PreparedSummary | None:
        """Store the call that summarises next; None where that has failed too often.

        `prompts` as in `TurnRepository.reserve`. Raises `BudgetExhausted`.
        """
        last = context.compaction
        tries = await self._compactions.tries(tx, call, 0 if last is None else last.call_id)
        if tries.refused or tries.failed >= SUMMARY_TRIES:
            return None
        following, choice = context.compaction_of(), context.choice
        reserved = await self._reservations.make(
            tx,
            call.model_copy(update={"step": 0}),
            attempt,
            following.request,
            choice.access,
            prompts=prompts,
            context_tokens=context.tokens,
            context_window=choice.window,
            fallback_for=choice.fallback_for,
        )
        prepared = PreparedSummary(call, reserved, context, following, tries)
        if not tries.begun and context.unfinished is None:
            started: dict[str, JsonValue] = {
                "tokens_before": context.tokens,
                "context_window": choice.window,
            }
            await self._tell(tx, prepared, EventType.COMPACTION_STARTED, started)
        return prepared

    async def run(self, prepared: PreparedSummary) -> None:
        """Make the call and store its summary.

        Returns where it has failed for good as well: the turn goes on without it. Raises the
        gateway's errors where another try may help, and `LateAttempt`.
        """
        context, request = prepared.context, prepared.round.request
        try:
            async with self._breakers.watched(context.permit, verdict_of):
                reply = await self._gateway.complete(request, context.choice.access, _unheard)
            if not kept_summary(reply.text, context.choice):
                raise CompactionFailed("The model answered without a summary")
        except ConclaveError as error:
            await self._note_failure(prepared, error)
        except asyncio.CancelledError:
            await asyncio.shield(self._close(prepared, "cancelled", was_billed=True))
            raise
        else:
            await self._commit(prepared, prepared.reserved.priced(reply))

    async def refuse(
        self, tx: Transaction, call: CompleteInput, reason: str, **told: JsonValue
    ) -> None:
        """Answer a request that asks for what cannot be done."""
        await self._answer(tx, call, InboxStatus.FAILED, {"error": reason, **told})

    async def _commit(self, prepared: PreparedSummary, reply: ModelReply) -> None:
        call, done = prepared.call, prepared.round
        summary = kept_summary(reply.text, prepared.context.choice)
        stored = Compaction(
            through_seq=done.through_seq,
            summary=summary,
            tokens_before=prepared.tokens_before,
            tokens_after=prepared.context.after(done, summary),
            turns_removed=prepared.turns_removed,
            finished=done.is_last,
            call_id=prepared.call_id,
        )
        async with self._db.transaction() as tx:
            if await self._compactions.pass_fence(
                tx, call, prepared.call_id, done, reply, stored.tokens_after
            ):
                passed = await self._compactions.add(tx, call.conversation_id, stored, reply)
                if done.is_last:
                    told = Compacted.model_validate(stored.model_dump()).model_dump()
                    await self._tell(tx, prepared, EventType.COMPACTED, told)
                    await self._answer(tx, call, InboxStatus.DONE, told)
                if passed is not None:
                    await self._budgets.tell_thresholds(tx, passed)
                return
        await self._close(prepared, "late_attempt", was_billed=True)
        raise LateAttempt("A later attempt of this call took over, or the conversation ended.")

    async def _note_failure(self, prepared: PreparedSummary, error: ConclaveError) -> None:
        """Settle the call that failed; raise the error where another try may help."""
        may_help = error.retryable and prepared.tries.failed + 1 < SUMMARY_TRIES
        async with self._db.transaction() as tx:
            await self._turns.close_call(
                tx,
                prepared.call_id,
                error_code=error.code,
                # It may have been billed: it ran out of time, or answered with nothing.
                was_billed=error.code in ("provider_timeout", CompactionFailed.code),
            )
            if not may_help:
                before = prepared.tokens_before
                told = Compacted(tokens_before=before, tokens_after=before, turns_removed=0)
                data = {**told.model_dump(), "error": error.message}
                await self._tell(tx, prepared, EventType.COMPACTED, data)
                await self._answer(tx, prepared.call, InboxStatus.FAILED, {"error": error.message})
        if may_help:
            raise error

    async def _close(self, prepared: PreparedSummary, error_code: str, *, was_billed: bool) -> None:
        async with self._db.transaction() as tx:
            await self._turns.close_call(
                tx, prepared.call_id, error_code=error_code, was_billed=was_billed
            )

    async def _answer(
        self,
        tx: Transaction,
        call: CompleteInput,
        status: InboxStatus,
        answer: dict[str, JsonValue],
    ) -> None:
        """Answer whoever asked for a compaction; a turn's own is answered by its reply."""
        if call.step != 0 or call.inbox_id is None:
            return
        await self._compactions.fall_silent(tx, call.conversation_id)
        await self._mailbox.settle(
            tx,
            target=conversation_stream(call.conversation_id),
            status=status,
            answer=answer,
            inbox_id=call.inbox_id,
        )

    async def _tell(
        self,
        tx: Transaction,
        prepared: PreparedSummary,
        type_: EventType,
        data: dict[str, JsonValue],
    ) -> None:
        call, opening = prepared.call, prepared.context.opening
        event = EventDraft(
            stream=conversation_stream(call.conversation_id),
            type=type_,
            data={"conversation_id": call.conversation_id, **data},
            conversation_id=call.conversation_id,
            circle_id=opening.circle_id,
            agent_id=call.agent_id,
            owner=private_owner_of(opening.kind, opening.owner),
        )
        await self._events.append(tx, [event])


async def _unheard(offset: int, text: str) -> None:
    """Take the text of a summary while it is written: it is nobody's to hear."""

"""The turn: everything around a model call that must hold when a process dies.

begin → the model call → commit. Each is one transaction. A retry finds the committed reply and
returns it; an attempt that was cut is settled at its worst case, because it may have been billed.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

from conclave.conversations.compaction_repository import CompactionRepository
from conclave.conversations.compactor import Compactor, PreparedSummary
from conclave.conversations.context import Context
from conclave.conversations.errors import ConversationNotFound, LateAttempt
from conclave.conversations.mentions import has_end_marker, mentions, named
from conclave.conversations.model_admission import ModelAdmission, tries_of, verdict_of
from conclave.conversations.model_choice import ModelChooser
from conclave.conversations.rendering import (
    message_event,
    private_owner_of,
    turn_completed_event,
)
from conclave.conversations.repository import ConversationRepository
from conclave.conversations.reservations import Reservations, Reserved
from conclave.conversations.turn_repository import Opening, Passage, TurnRepository
from conclave.db import Database, Transaction
from conclave.errors import CircuitOpen, ConclaveError, ProviderExhausted
from conclave.events import EventLog
from conclave.failpoints import Failpoint, reach
from conclave.mailbox import Mailbox
from conclave.ports.breakers import Breakers, Permit
from conclave.ports.costs import Budgets
from conclave.ports.events import EventBus
from conclave.ports.models import ModelGateway
from conclave.ports.task_turns import TaskTurns
from conclave.ports.tools import ToolDesk
from schema.domain.agents import AT_REST, AgentConfig, AgentStatus
from schema.domain.base import Shape
from schema.domain.conversations import ConversationKind, ConversationStatus, Message
from schema.domain.events import Delta, EventDraft, EventType, conversation_stream
from schema.domain.inbox import InboxItem, InboxStatus
from schema.domain.llm import ModelReply, ModelRequest
from schema.domain.providers import ProviderAccess
from schema.domain.tools import StepPlace, ToolAsker
from schema.payloads.agent_turn import CallOutcome, CompleteInput, CompleteResult
from schema.payloads.tools import ToolRef

TOO_FEW_TURNS = "There are too few user turns to compact"
PROVIDER_TRIES = 5
"""How often a provider that cannot answer is asked for one step before the turn fails."""


class PreparedCall(Shape):
    """A model call whose reservation is committed. It holds the prompt and the provider's key:
    it never leaves the process."""

    call: CompleteInput
    call_id: int
    reserved: Reserved
    attempt: int
    request: ModelRequest
    access: ProviderAccess
    permit: Permit
    fallback_for: str | None
    names: dict[int, str]
    asker: ToolAsker
    agent_name: str
    circle_id: int | None
    owner: str | None
    max_turns: int
    failures: int


class TurnService:
    """Runs one model call of a turn against the record."""

    def __init__(
        self,
        db: Database,
        events: EventLog,
        mailbox: Mailbox,
        bus: EventBus,
        gateway: ModelGateway,
        models: ModelChooser,
        tools: ToolDesk,
        tasks: TaskTurns,
        breakers: Breakers,
        budgets: Budgets,
    ) -> None:
        self._db = db
        self._events = events
        self._mailbox = mailbox
        self._bus = bus
        self._gateway = gateway
        self._breakers = breakers
        self._models = ModelAdmission(models, breakers)
        self._budgets = budgets
        self._reservations = Reservations(gateway, budgets)
        self._compactor = Compactor(
            db, events, mailbox, gateway, breakers, self._reservations, budgets
        )
        self._compactions = CompactionRepository()
        self._tools = tools
        self._tasks = tasks
        self._turns = TurnRepository()
        self._conversations = ConversationRepository()

    async def complete(self, call: CompleteInput, attempt: int) -> CompleteResult:
        """Make one model call and commit its reply, or say why it is not made.

        Where the conversation must be compacted first, and where that is all that is asked for
        (step 0), the call is one that summarises, and the outcome COMPACTED. Raises the errors of
        the model gateway, `ConversationNotFound`, `LateAttempt`, `PromptTooLong`, `Unavailable`,
        `CircuitOpen` where nothing was sent or stored: what is asked waits for it or, as
        `CircuitStaysOpen`, does not; and `BudgetExhausted` before anything is sent.
        """
        prepared = await self._budgets.within(lambda: self._begin(call, attempt))
        if isinstance(prepared, CompleteResult):
            return prepared
        if isinstance(prepared, PreparedSummary):
            await self._compactor.run(prepared)
            status = prepared.context.opening.status
            return CompleteResult(outcome=CallOutcome.COMPACTED, turn=call.turn, status=status)
        reach(Failpoint.BEFORE_PROVIDER_CALL, "conversation", call.conversation_id)
        try:
            async with self._breakers.watched(prepared.permit, verdict_of):
                reply = await self._gateway.complete(
                    prepared.request, prepared.access, _DeltaPublisher(prepared, self._bus)
                )
        except ConclaveError as error:
            raise await self._note_failure(prepared, error) from error
        except asyncio.CancelledError:
            await asyncio.shield(self._close(prepared, "cancelled", was_billed=True))
            raise
        reach(Failpoint.BEFORE_COMMIT, "conversation", call.conversation_id)
        result = await self._commit(prepared, prepared.reserved.priced(reply))
        reach(Failpoint.AFTER_COMMIT, "conversation", call.conversation_id)
        return result

    async def _begin(
        self, call: CompleteInput, attempt: int
    ) -> PreparedCall | PreparedSummary | CompleteResult:
        target = conversation_stream(call.conversation_id)
        async with self._db.transaction() as tx:
            opening = await self._turns.opening(tx, call, target)
            if opening is None:
                raise ConversationNotFound(call.conversation_id)
            refused = _refusal(call, opening)
            if refused is not None:
                return await self._explain(tx, call, opening, refused)
            if opening.fence is not None:
                await self._conversations.settle_cut_call(tx, opening.fence)
            if call.step == 0:
                return await self._reserve_summary(tx, call, attempt, opening)
            return await self._reserve(tx, call, attempt, opening, target)

    async def _explain(
        self, tx: Transaction, call: CompleteInput, opening: Opening, outcome: CallOutcome
    ) -> CompleteResult:
        target = conversation_stream(call.conversation_id)
        if outcome is CallOutcome.SPOKEN:
            found = await self._turns.committed_reply(tx, call, target)
            refs = await self._tools.refs(tx, _step(call)) if found.tool_calls else []
            return _spoken(call, found, found.status, found.names or {}, found.waiting, refs)
        return CompleteResult(
            outcome=outcome,
            turn=opening.inbox_turn or call.turn,
            status=opening.status,
            waiting=await self._mailbox.waiting(tx, target),
        )

    async def _reserve(
        self, tx: Transaction, call: CompleteInput, attempt: int, opening: Opening, target: str
    ) -> PreparedCall | PreparedSummary:
        """Claim the request, build the prompt and store the call before it is sent."""
        prompt = (
            await self._turns.claim(tx, call, target, seq=opening.last_seq + 1)
            if call.inbox_id is not None
            else None
        )
        asker, owner = _asker(call, opening), private_owner_of(opening.kind, opening.owner)
        prompts = 0 if prompt is None else 1
        context = await self._context(tx, call, attempt, opening, asker)
        asked = _asked_events(prompt, opening, owner)
        if context.must_be_compacted:
            # Before what may tell of a compaction; the call itself is told of after it.
            await self._events.append(tx, asked)
            asked = []
            summary = await self._compactor.prepare(tx, call, attempt, context, prompts=prompts)
            if summary is not None:
                return summary
        request, tokens = context.fitted()
        access = context.choice.access
        reserved = await self._reservations.make(
            tx,
            call,
            attempt,
            request,
            access,
            prompts=prompts,
            context_tokens=tokens,
            context_window=context.choice.window,
            fallback_for=context.choice.fallback_for,
        )
        prepared = PreparedCall(
            call=call,
            call_id=reserved.call_id,
            reserved=reserved,
            attempt=attempt,
            request=request,
            access=access,
            permit=context.permit,
            fallback_for=context.choice.fallback_for,
            names=opening.participants,
            asker=asker,
            agent_name=request.speaker,
            circle_id=opening.circle_id,
            owner=owner,
            max_turns=opening.max_turns,
            failures=len(tries_of(opening, attempt)),
        )
        drafts = [*asked, _started_event(prepared)]
        if opening.task_id is not None and call.step == 1:
            drafts += await self._tasks.begun(tx, call)
        await self._events.append(tx, drafts)
        return prepared

    async def _reserve_summary(
        self, tx: Transaction, call: CompleteInput, attempt: int, opening: Opening
    ) -> PreparedSummary | CompleteResult:
        """Store the call that compacts between two turns, or answer why there is none."""
        try:
            context = await self._context(tx, call, attempt, opening, _asker(call, opening))
        except CircuitOpen as error:
            wait = error.retry_after
            await self._compactor.refuse(tx, call, error.message, code=error.code, retry_after=wait)
            return await self._explain(tx, call, opening, CallOutcome.ALREADY_ANSWERED)
        if context.is_compactable:
            prepared = await self._compactor.prepare(tx, call, attempt, context, prompts=0)
            if prepared is not None:
                return prepared
        await self._compactor.refuse(tx, call, TOO_FEW_TURNS)
        return await self._explain(tx, call, opening, CallOutcome.ALREADY_ANSWERED)

    async def _context(
        self,
        tx: Transaction,
        call: CompleteInput,
        attempt: int,
        opening: Opening,
        asker: ToolAsker,
    ) -> Context:
        seq = opening.compacted_seq
        choice, permit = await self._models.admit(tx, call, opening, attempt)
        context = Context(
            opening=opening,
            lines=await self._turns.transcript(tx, call.conversation_id, after_seq=seq),
            compaction=await self._compactions.last(tx, call.conversation_id) if seq else None,
            tools=await self._tools.offered(asker) if call.offer_tools else [],
            choice=choice,
            timeout=float(call.timeout),
            count=lambda request: self._gateway.count_tokens(request, choice.access),
            permit=permit,
        )
        if context.is_counted:
            await self._gateway.load_tokenizer(context.whole, choice.access)
        return context

    async def _commit(self, prepared: PreparedCall, reply: ModelReply) -> CompleteResult:
        call = prepared.call
        if reply.tool_calls and not call.offer_tools:
            # The last step of a turn: what it still asks for is not run, so it is not stored.
            text = reply.text or "I stop here: this turn has taken as many steps as it may."
            reply = reply.model_copy(update={"tool_calls": [], "text": text})
        ends = not reply.tool_calls and _ends(prepared, reply)
        async with self._db.transaction() as tx:
            target = conversation_stream(call.conversation_id)
            passage = await self._turns.pass_fence(
                tx, call, prepared.call_id, reply, target, ends=ends
            )
            if passage is not None:
                message, passed = await self._turns.add_reply(
                    tx,
                    call,
                    prepared.call_id,
                    reply,
                    passage,
                    agent_name=prepared.agent_name,
                    mentions=mentions(reply.text, prepared.names),
                )
                event = message_event(
                    message,
                    circle_id=prepared.circle_id,
                    owner=prepared.owner,
                    status=passage.status,
                    step=call.step,
                    fallback_for=prepared.fallback_for,
                )
                completed = await self._completed(tx, prepared, reply, passage)
                await self._events.append(tx, [event, *completed])
                refs = (
                    await self._tools.record(tx, prepared.asker, _step(call), reply.tool_calls)
                    if reply.tool_calls
                    else []
                )
                if passed is not None:
                    await self._budgets.tell_thresholds(tx, passed)
                return _spoken(call, message, passage.status, prepared.names, passage.waiting, refs)
        await self._close(prepared, "late_attempt", was_billed=True)
        raise LateAttempt("A later attempt of this call took over, or the conversation ended.")

    async def _completed(
        self, tx: Transaction, prepared: PreparedCall, reply: ModelReply, passage: Passage
    ) -> list[EventDraft]:
        """Return the event that closes a chat's turn, with what all its steps used, or a task."""
        if prepared.asker.kind is ConversationKind.TASK:
            if reply.tool_calls or passage.waiting:
                return []
            return [*await self._tasks.completed(tx, prepared.call, reply.text)]
        if reply.tool_calls or prepared.asker.kind is not ConversationKind.CHAT:
            return []
        stop = "max_tokens" if reply.finish_reason == "length" else "end_turn"
        usage = await self._turns.usage(tx, prepared.call)
        return [turn_completed_event(prepared.asker, prepared.call.turn, stop, reply.model, usage)]

    async def _note_failure(self, prepared: PreparedCall, error: ConclaveError) -> ConclaveError:
        """Settle the call that failed; return the error to raise.

        What may have been billed is settled at its worst case: a call that ran out of time.
        A task does not give up on a provider whose circuit is open: it waits for it.
        """
        await self._close(prepared, error.code, was_billed=error.code == "provider_timeout")
        is_task = prepared.asker.kind is ConversationKind.TASK
        if is_task and not self._breakers.is_closed(prepared.permit.circuit):
            return error
        if error.retryable and prepared.failures + 1 >= PROVIDER_TRIES:
            return ProviderExhausted(f"{error.message} (asked {PROVIDER_TRIES} times)")
        return error

    async def _close(self, prepared: PreparedCall, error_code: str, *, was_billed: bool) -> None:
        async with self._db.transaction() as tx:
            await self._turns.close_call(
                tx, prepared.call_id, error_code=error_code, was_billed=was_billed
            )


class _DeltaPublisher:
    """Passes text on while it is spoken, tagged so that a retried call supersedes it."""

    def __init__(self, prepared: PreparedCall, bus: EventBus) -> None:
        self._prepared = prepared
        self._bus = bus

    async def __call__(self, offset: int, text: str) -> None:
        call = self._prepared.call
        self._bus.publish(
            Delta(
                conversation_id=call.conversation_id,
                circle_id=self._prepared.circle_id,
                owner=self._prepared.owner,
                agent_id=call.agent_id,
                turn=call.turn,
                step=call.step,
                attempt=self._prepared.call_id,
                offset=offset,
                text=text,
            )
        )


def _spoken(
    call: CompleteInput,
    message: Message,
    status: ConversationStatus,
    names: dict[int, str],
    waiting: list[InboxItem],
    tools: list[ToolRef],
) -> CompleteResult:
    return CompleteResult(
        outcome=CallOutcome.SPOKEN,
        turn=call.turn,
        status=status,
        seq=message.seq,
        mentions=message.mentions,
        named=named(message.content, names),
        cost_micro_usd=int(message.cost_usd * Decimal(1_000_000)),
        tool_calls=len(tools),
        tools=tools,
        waiting=sorted(waiting, key=lambda item: item.id),
    )


def _refusal(call: CompleteInput, opening: Opening) -> CallOutcome | None:
    """Say why the call is not made; SPOKEN: because it was."""
    if opening.is_replied:
        return CallOutcome.SPOKEN
    if opening.execution != call.execution:
        return CallOutcome.SUPERSEDED
    if opening.inbox_status in (InboxStatus.DONE, InboxStatus.FAILED):
        return CallOutcome.ALREADY_ANSWERED
    if opening.final:
        return CallOutcome.ENDED
    is_new = opening.fence is None and call.step == 1
    if is_new and opening.status is ConversationStatus.PAUSED:
        return CallOutcome.PAUSED
    if opening.behind:
        return CallOutcome.BEHIND
    if opening.agent_id is None or opening.agent_state == AgentStatus.OFFLINE:
        return CallOutcome.AGENT_GONE
    if is_new and opening.agent_state in AT_REST:
        return CallOutcome.AGENT_GONE
    return None


def _step(call: CompleteInput) -> StepPlace:
    return StepPlace(
        conversation_id=call.conversation_id,
        execution=call.execution,
        turn=call.turn,
        step=call.step,
    )


def _asker(call: CompleteInput, opening: Opening) -> ToolAsker:
    return ToolAsker.of(
        conversation_id=call.conversation_id,
        kind=opening.kind,
        owner=opening.owner,
        circle_id=opening.circle_id,
        circle_config=opening.circle_config,
        agent_id=call.agent_id,
        agent_name=opening.agent_name or "",
        config=opening.config or AgentConfig(),
        risk_rules=opening.risk_rules,
        tightened=opening.permissions,
        task_id=opening.task_id,
        required_tools=opening.required_tools,
    )


def _ends(prepared: PreparedCall, reply: ModelReply) -> bool:
    """Whether the conversation is complete with this reply: no chat is, and a task says itself."""
    if prepared.asker.kind in (ConversationKind.CHAT, ConversationKind.TASK):
        return False
    return prepared.call.turn >= prepared.max_turns or has_end_marker(reply.text)


def _started_event(prepared: PreparedCall) -> EventDraft:
    call = prepared.call
    return EventDraft(
        stream=conversation_stream(call.conversation_id),
        type=EventType.TURN_STARTED,
        data={
            "conversation_id": call.conversation_id,
            "agent_id": call.agent_id,
            "agent_name": prepared.agent_name,
            "turn": call.turn,
            "step": call.step,
            "attempt": prepared.call_id,
            "provider": prepared.request.provider,
            "model": prepared.request.model,
            "fallback_for": prepared.fallback_for,
        },
        conversation_id=call.conversation_id,
        circle_id=prepared.circle_id,
        agent_id=call.agent_id,
        owner=prepared.owner,
    )


def _asked_events(prompt: Message | None, opening: Opening, owner: str | None) -> list[EventDraft]:
    """Return the event of the prompt that was claimed, if there is one."""
    if prompt is None:
        return []
    status = ConversationStatus.ACTIVE
    return [message_event(prompt, circle_id=opening.circle_id, owner=owner, status=status)]

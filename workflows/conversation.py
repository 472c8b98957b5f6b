"""The conversation: who speaks when, and when it is over.

Started by: the API or the relay, at creation (`auto_run`) or with the first message.
Id: `conversation-42`; a run after completion is `conversation-42-2`.
Messages: Update `advance` (an inbox row's id; answers when its turn is over), signal `wake`
(look at the record again; carries nothing, so that it may come twice or from Temporal's UI).
Lifetime: until the conversation is completed, failed, ended or cancelled; continues as new at
turn boundaries. Everything said lives in the record: ids and counters alone are kept here.
"""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from schema.domain.conversations import ConversationStatus
    from schema.domain.inbox import InboxItem, InboxKind
    from schema.payloads import names
    from schema.payloads.agent_turn import CallOutcome, CompleteInput, CompleteResult
    from schema.payloads.conversations import (
        AdvanceInput,
        AdvanceOutcome,
        AdvanceResult,
        ConversationResult,
        ConversationState,
        LookInput,
        LookResult,
        SettleInput,
        SettleResult,
        WakeInput,
    )
    from schema.payloads.tools import FinishInput, FinishResult

# Reloaded in the sandbox as this file is, so that its restrictions hold in them too.
with workflow.unsafe.sandbox_import_notification_policy(
    workflow.SandboxImportNotificationPolicy.SILENT
):
    from workflows import agent_turn, policies, visibility
    from workflows.turn_order import Choice, choose_speaker, drop_agent, note_spoken

HISTORY_EVENTS = 400
"""A run continues as new at the first turn boundary past this many events, or when the server
suggests it: small histories replay quickly and stay far from the server's limits."""

_OPEN = (ConversationStatus.PENDING, ConversationStatus.ACTIVE, ConversationStatus.PAUSED)


@workflow.defn(name=names.CONVERSATION_WORKFLOW)
class ConversationWorkflow:
    """Gives the floor to one agent after the other."""

    @workflow.init
    def __init__(self, state: ConversationState) -> None:
        self._state = state
        self._answers: dict[int, AdvanceResult] = {}
        self._must_look = False
        self._moving_on = False
        self._speaking: int | None = None
        self._stopping = False
        """The turn that runs was cancelled by a person: it is closed, not only left."""

    @workflow.run
    async def run(self, state: ConversationState) -> ConversationResult:
        """Talk until there is nothing left to say."""
        self._show()
        try:
            await self._talk()
        except (asyncio.CancelledError, ActivityError) as error:
            if is_cancelled_exception(error):
                await self._close_cancelled()
            raise
        await workflow.wait_condition(workflow.all_handlers_finished)
        return ConversationResult(status=self._state.status, turn_count=self._state.turn_count)

    @workflow.update(name=names.ADVANCE_UPDATE)
    async def advance(self, message: AdvanceInput) -> AdvanceResult:
        """Take a request into the queue and wait for its answer."""
        self._enqueue([message.item])
        await workflow.wait_condition(lambda: message.item.id in self._answers or self._moving_on)
        return self._answers.pop(message.item.id, AdvanceResult(outcome=AdvanceOutcome.ACCEPTED))

    @advance.validator
    def _accept_advance(self, message: AdvanceInput) -> None:
        if message.item.id <= 0:
            raise ValueError("an inbox row's id is needed")

    @workflow.signal(name=names.WAKE_SIGNAL)
    def wake(self, message: WakeInput | None = None) -> None:
        """Look at the record at the next moment nothing else is done."""
        self._must_look = True

    async def _talk(self) -> None:
        while True:
            await workflow.wait_condition(
                lambda: self._must_look or self._has_turn() or self._is_over()
            )
            if self._must_look:
                await self._look()
            elif not self._has_turn():
                return
            elif self._is_long():
                await self._continue_as_new()
            else:
                await self._turn()

    def _has_turn(self) -> bool:
        if self._state.status is ConversationStatus.PAUSED:
            return False
        return bool(self._state.inbox) or (self._state.auto_run and self._state.status in _OPEN)

    def _is_over(self) -> bool:
        return self._state.status not in _OPEN and not self._state.inbox

    def _is_long(self) -> bool:
        info = workflow.info()
        return (
            info.is_continue_as_new_suggested()
            or info.get_current_history_length() > HISTORY_EVENTS
        )

    async def _turn(self) -> None:
        """Let the next agent speak, and keep an eye on the record meanwhile."""
        state = self._state
        item = state.inbox[0] if state.inbox else None
        if not state.floor.agent_ids:
            await self._fail("No agent is left to speak", item)
            return
        choice = choose_speaker(state.floor, item, workflow.random())
        self._speaking = choice.agent_id
        self._stopping = False
        self._show()
        turn = asyncio.create_task(self._speak(choice.agent_id, item))
        try:
            await self._watch(turn)
            error = asyncio.CancelledError() if turn.cancelled() else turn.exception()
            if error is None:
                await self._note(choice, item, turn.result())
            elif is_cancelled_exception(error):
                await self._left(item)
            elif isinstance(error, ActivityError):
                await self._fail(_reason(error), item, _code(error))
            else:
                raise error
        finally:
            self._speaking = None
            self._show()

    async def _left(self, item: InboxItem | None) -> None:
        """The turn was cancelled: by a person, or because the conversation is over."""
        if self._stopping and self._state.status in _OPEN:
            await self._stop(item, "cancelled")
        else:
            self._answer(item, AdvanceOutcome.REFUSED)

    async def _watch(self, turn: asyncio.Task[CompleteResult]) -> None:
        """Wait until a turn is over; a cancel of the run, in a look too, cancels the turn."""
        try:
            while not turn.done():
                await workflow.wait_condition(lambda: turn.done() or self._must_look)
                if self._must_look:
                    await self._look(turn)
        except (asyncio.CancelledError, ActivityError):
            turn.cancel()
            await asyncio.gather(turn, return_exceptions=True)
            raise

    async def _speak(self, speaker: int, item: InboxItem | None) -> CompleteResult:
        state = self._state
        compacts = item is not None and item.kind is InboxKind.COMPACT
        call = CompleteInput(
            conversation_id=state.conversation_id,
            execution=state.execution,
            turn=state.turn_count if compacts else state.turn_count + 1,
            step=0 if compacts else 1,
            agent_id=speaker,
            timeout=state.turn_timeout,
            inbox_id=None if item is None else item.id,
        )
        label = state.labels.get(speaker, f"agent {speaker}")
        if compacts:
            return await agent_turn.compact(call, f"{label}, compact")
        return await agent_turn.speak(call, f"{label}, turn {call.turn}")

    async def _note(self, choice: Choice, item: InboxItem | None, result: CompleteResult) -> None:
        """Take over what the record says after a call."""
        state = self._state
        before = state.status
        match result.outcome:
            case CallOutcome.SPOKEN:
                state.turn_count = result.turn
                state.status = result.status
                state.spent_micro_usd += result.cost_micro_usd
                note_spoken(state.floor, choice, result)
                self._answer(item, AdvanceOutcome.SPOKEN, result.turn)
            case CallOutcome.ALREADY_ANSWERED:
                self._answer(item, AdvanceOutcome.SPOKEN, result.turn)
            case CallOutcome.PAUSED:
                state.status = ConversationStatus.PAUSED
            case CallOutcome.AGENT_GONE:
                drop_agent(state.floor, choice.agent_id)
                if item is not None and item.agent_id == choice.agent_id:
                    await self._refuse(item, f"Agent {choice.agent_id} is gone or offline")
            case CallOutcome.TOOLS_DENIED:
                await self._stop(item, "tool_denied")
            case CallOutcome.BEHIND | CallOutcome.COMPACTED:
                pass
            case CallOutcome.ENDED | CallOutcome.SUPERSEDED:
                self._end(result.status)
        self._enqueue(result.waiting)
        if state.status is ConversationStatus.PAUSED:
            # It may have been resumed after the call read this, and told so during the call.
            self._must_look = True
        if state.status is not before:
            self._show_status()

    async def _look(self, turn: asyncio.Task[CompleteResult] | None = None) -> None:
        """Read the record: what was asked, and whether to pause, go on or stop."""
        self._must_look = False
        seen = await workflow.execute_activity(
            names.LOOK_ACTIVITY,
            LookInput(conversation_id=self._state.conversation_id, execution=self._state.execution),
            result_type=LookResult,
            start_to_close_timeout=policies.RECORD_TIMEOUT,
            retry_policy=policies.RECORD_RETRY,
            summary="look at the record",
        )
        if seen.final or seen.superseded:
            if turn is not None:
                turn.cancel()
            self._end(seen.status)
        elif turn is None or seen.status is ConversationStatus.PAUSED:
            self._state.status = seen.status
        self._enqueue(seen.inbox)
        if seen.cancel_turn == self._state.turn_count + 1:
            self._stopping = True
            if turn is not None:
                turn.cancel()
            elif self._state.inbox:
                await self._stop(self._state.inbox[0], "cancelled")
        self._show_status()
        self._show()

    async def _close_cancelled(self) -> None:
        """Bring the record to what Temporal says; whoever waits, and whoever asks yet, reads it."""
        await self._settle(ConversationStatus.CANCELLED, "Cancelled in Temporal", None)
        self._moving_on = True
        await workflow.wait_condition(workflow.all_handlers_finished)

    def _end(self, status: ConversationStatus) -> None:
        """Nothing more is said in this run: whoever waits is told to look at the record."""
        closed = ConversationStatus.CANCELLED if status in _OPEN else status
        self._state.status = closed
        for item in list(self._state.inbox):
            self._answer(item, AdvanceOutcome.REFUSED)

    async def _fail(self, reason: str, item: InboxItem | None, code: str | None = None) -> None:
        inbox_id = None if item is None else item.id
        await self._settle(ConversationStatus.FAILED, reason, inbox_id, code)
        self._answer(item, AdvanceOutcome.FAILED)

    async def _stop(self, item: InboxItem | None, stop_reason: str) -> None:
        """Close the turn under way without a last word: its number is used up."""
        finished = await workflow.execute_activity(
            names.FINISH_ACTIVITY,
            FinishInput(
                conversation_id=self._state.conversation_id,
                execution=self._state.execution,
                turn=self._state.turn_count + 1,
                stop_reason=stop_reason,
                inbox_id=None if item is None else item.id,
            ),
            result_type=FinishResult,
            start_to_close_timeout=policies.RECORD_TIMEOUT,
            retry_policy=policies.RECORD_RETRY,
            summary=f"close the turn: {stop_reason}",
        )
        self._state.turn_count = finished.turn_count
        self._state.status = finished.status
        self._answer(item, AdvanceOutcome.FAILED)

    async def _refuse(self, item: InboxItem, reason: str) -> None:
        await self._settle(self._state.status, reason, item.id)
        self._answer(item, AdvanceOutcome.FAILED)

    async def _settle(
        self,
        status: ConversationStatus,
        reason: str,
        inbox_id: int | None,
        code: str | None = None,
    ) -> None:
        settled = await workflow.execute_activity(
            names.SETTLE_ACTIVITY,
            SettleInput(
                conversation_id=self._state.conversation_id,
                execution=self._state.execution,
                status=status,
                reason=reason,
                inbox_id=inbox_id,
                code=code,
            ),
            result_type=SettleResult,
            start_to_close_timeout=policies.RECORD_TIMEOUT,
            retry_policy=policies.RECORD_RETRY,
            summary=f"settle as {status.value}",
        )
        self._state.status = settled.status
        if settled.turn_count is not None:
            self._state.turn_count = settled.turn_count
        self._show_status()

    def _enqueue(self, items: list[InboxItem]) -> None:
        """Add requests that are not queued yet; the order is that of their rows."""
        known = {item.id for item in self._state.inbox} | self._answers.keys()
        added = [item for item in items if item.id not in known]
        self._state.inbox = sorted([*self._state.inbox, *added], key=lambda item: item.id)

    def _answer(
        self, item: InboxItem | None, outcome: AdvanceOutcome, turn: int | None = None
    ) -> None:
        if item is None:
            return
        self._state.inbox = [other for other in self._state.inbox if other.id != item.id]
        self._answers[item.id] = AdvanceResult(outcome=outcome, turn=turn)

    async def _continue_as_new(self) -> None:
        self._moving_on = True
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(self._state)

    def _show(self) -> None:
        workflow.set_current_details(visibility.details(self._state, self._speaking))

    def _show_status(self) -> None:
        updates = visibility.status_attributes(self._state)
        workflow.upsert_search_attributes(updates)  # pyright: ignore[reportUnknownMemberType]  # the SDK leaves a type argument open


def _reason(error: ActivityError) -> str:
    """Return the public sentence of what went wrong."""
    cause = error.cause
    return cause.message if isinstance(cause, ApplicationError) else "The model call failed"


def _code(error: ActivityError) -> str | None:
    """Return the code of the error, where it is one of the core's."""
    return error.cause.type if isinstance(error.cause, ApplicationError) else None

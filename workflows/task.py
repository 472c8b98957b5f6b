"""The task: one attempt of an agent at a piece of work.

Started by: the dispatcher or the relay, once the record has given the task an agent and a slot.
Id: `task-7`; each further attempt has a run of its own, `task-7-2`.
Messages: Update `amend` (an inbox row's id: the task was changed while it runs), signal `wake`
(look at the record again; carries nothing).
Lifetime: until the attempt is over. One that failed and may be repeated stays until the next may
begin, so that the wait is a timer here, and gives the task back to the dispatcher then. What the
agent says and does lives in the record, and so does the end: the reply that ends a task is
committed with it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    RetryState,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from schema.domain.inbox import InboxItem
    from schema.payloads import names
    from schema.payloads.agent_turn import CallOutcome, CompleteInput, CompleteResult
    from schema.payloads.conversations import WakeInput
    from schema.payloads.tasks import (
        AfterFailure,
        AmendInput,
        AmendResult,
        CloseTaskInput,
        FailTaskInput,
        FailTaskResult,
        LookAtTaskInput,
        LookAtTaskResult,
        RequeueTaskInput,
        Shortage,
        TaskInput,
        TaskRunResult,
        TaskSettled,
    )

# Reloaded in the sandbox as this file is, so that its restrictions hold in them too.
with workflow.unsafe.sandbox_import_notification_policy(
    workflow.SandboxImportNotificationPolicy.SILENT
):
    from workflows import agent_turn, policies, visibility

_TIMEOUT = "timeout"
_DENIED = "approval_rejected"
_GONE = "agent_gone"
_TOOK_TOO_LONG = "It took longer than an attempt may take"
_SUPERSEDED = "superseded"


@workflow.defn(name=names.TASK_WORKFLOW)
class TaskWorkflow:
    """Lets the agent work, turn after turn, until the record says that it is over."""

    @workflow.init
    def __init__(self, state: TaskInput) -> None:
        self._state = state
        self._spent = 0
        self._seen: set[int] = {item.id for item in state.inbox}
        self._must_look = False
        self._is_over = False
        self._answering: InboxItem | None = None
        """The change that the turn under way begins with."""

    @workflow.run
    async def run(self, state: TaskInput) -> TaskRunResult:
        """Work on it."""
        try:
            outcome = await self._work()
        except (asyncio.CancelledError, ActivityError) as error:
            self._is_over = True
            if is_cancelled_exception(error):
                await self._close()
            raise
        self._is_over = True
        if self._state.version == 1:
            updates = visibility.task_end_attributes(outcome, self._spent)
            workflow.upsert_search_attributes(updates)  # pyright: ignore[reportUnknownMemberType]  # the SDK leaves a type argument open
        await workflow.wait_condition(workflow.all_handlers_finished)
        return TaskRunResult(outcome=outcome, cost_usd=self._spent / 1_000_000)

    @workflow.update(name=names.AMEND_UPDATE)
    async def amend(self, message: AmendInput) -> AmendResult:
        """Take a change up: the agent hears of it between two steps."""
        self._enqueue([message.item])
        return AmendResult()

    @amend.validator
    def _accept_amend(self, message: AmendInput) -> None:
        if message.item.id <= 0:
            raise ValueError("an inbox row's id is needed")
        if self._is_over:
            raise ValueError("this attempt is over")

    @workflow.signal(name=names.WAKE_SIGNAL)
    def wake(self, message: WakeInput | None = None) -> None:
        """Look at the record at the next moment nothing else is done."""
        self._must_look = True

    async def _work(self) -> str:
        """Take turns until one is the last; return how it ended."""
        late = self._timer()
        try:
            while True:
                try:
                    result = await self._turn(late)
                except TimeoutError:
                    return await self._fail(_TIMEOUT, _TOOK_TOO_LONG)
                except ActivityError as error:
                    if is_cancelled_exception(error):
                        raise
                    if error.retry_state is RetryState.TIMEOUT:
                        return await self._fail(_TIMEOUT, _TOOK_TOO_LONG)
                    return await self._fail(*_reason(error), _shortage(error))
                ended = _SUPERSEDED if result is None else await self._note(result)
                if ended is not None:
                    return ended
                if workflow.info().is_continue_as_new_suggested():
                    self._is_over = True
                    await workflow.wait_condition(workflow.all_handlers_finished)
                    workflow.continue_as_new(self._state)
        finally:
            late.cancel()

    def _timer(self) -> asyncio.Future[None]:
        """Return what is done when the attempt has taken too long: it ends what it waits for."""
        if self._state.version > 1:  # what it waits for ends by itself then
            return asyncio.get_running_loop().create_future()
        left = self._state.expires_at - workflow.now()
        return asyncio.create_task(asyncio.sleep(max(left.total_seconds(), 0)))

    async def _turn(self, late: asyncio.Future[None]) -> CompleteResult | None:
        """Let the agent take one turn, and look at the record when told to meanwhile.

        None: the task is not this attempt's any more. Raises TimeoutError when it is `late`.
        """
        self._show(f"Turn {self._state.turn + 1}")
        turn = asyncio.create_task(self._speak())
        try:
            while not turn.done() and not late.done():
                await workflow.wait_condition(lambda: turn.done() or late.done() or self._must_look)
                if self._must_look and not await self._is_still_ours():
                    return None
            if not turn.done():
                raise TimeoutError
            return turn.result()
        finally:
            if not turn.done():
                turn.cancel()
                await asyncio.gather(turn, return_exceptions=True)

    async def _speak(self) -> CompleteResult:
        state = self._state
        item = self._answering = state.inbox[0] if state.inbox else None
        call = CompleteInput(
            conversation_id=state.conversation_id,
            execution=state.execution,
            turn=state.turn + 1,
            step=1,
            agent_id=state.agent_id,
            timeout=state.turn_timeout,
            inbox_id=None if item is None else item.id,
        )
        return await agent_turn.speak(
            call,
            f"{state.label}, turn {call.turn}",
            max_steps=state.max_steps,
            tool_timeout=state.tool_timeout,
            until=state.expires_at if state.version > 1 else None,
            is_interrupted=lambda: any(other != item for other in state.inbox),
        )

    async def _note(self, result: CompleteResult) -> str | None:
        """Take over what the record says after a turn; None: there is more to do."""
        state = self._state
        match result.outcome:
            case CallOutcome.SPOKEN:
                state.turn += 1
                self._spent += result.cost_micro_usd
                self._answered()
                self._enqueue(result.waiting)
                return None if state.inbox or result.tools else "completed"
            case CallOutcome.ALREADY_ANSWERED:
                # An earlier try had put it into the transcript: the same turn, without it.
                self._answered()
                self._enqueue(result.waiting)
            case CallOutcome.BEHIND | CallOutcome.COMPACTED | CallOutcome.PAUSED:
                self._enqueue(result.waiting)
            case CallOutcome.TOOLS_DENIED:
                return await self._fail(_DENIED, "Everything it asked to do was denied")
            case CallOutcome.AGENT_GONE:
                return await self._fail(_GONE, "The agent is gone or offline")
            case CallOutcome.ENDED | CallOutcome.SUPERSEDED:
                return _SUPERSEDED
        return None

    def _answered(self) -> None:
        item = self._answering
        self._state.inbox = [other for other in self._state.inbox if other != item]

    def _enqueue(self, items: list[InboxItem]) -> None:
        """Add changes that were not taken up yet, in the order of their rows."""
        added = [item for item in items if item.id not in self._seen]
        self._seen |= {item.id for item in added}
        self._state.inbox = sorted([*self._state.inbox, *added], key=lambda item: item.id)

    async def _is_still_ours(self) -> bool:
        """Read the record: what was changed, and whether the attempt still has the task."""
        seen = await self._read()
        self._enqueue(seen.inbox)
        return seen.is_current

    async def _read(self) -> LookAtTaskResult:
        self._must_look = False
        return await workflow.execute_activity(
            names.LOOK_AT_TASK_ACTIVITY,
            LookAtTaskInput(task_id=self._state.task_id, execution=self._state.execution),
            result_type=LookAtTaskResult,
            start_to_close_timeout=policies.RECORD_TIMEOUT,
            retry_policy=policies.RECORD_RETRY,
            summary="look at the record",
        )

    async def _fail(self, error_type: str, reason: str, shortage: Shortage | None = None) -> str:
        """Tell the record; wait for the next attempt's time where there is to be one."""
        self._is_over = True
        settled = await workflow.execute_activity(
            names.FAIL_TASK_ACTIVITY,
            FailTaskInput(
                task_id=self._state.task_id,
                execution=self._state.execution,
                error_type=error_type,
                reason=reason,
                shortage=shortage,
            ),
            result_type=FailTaskResult,
            start_to_close_timeout=policies.RECORD_TIMEOUT,
            retry_policy=policies.RECORD_RETRY,
            summary=f"the attempt failed: {error_type}",
        )
        if settled.then is AfterFailure.OVER:
            return error_type
        await self._wait_for_next(settled)
        return f"{error_type}, to be tried again"

    async def _wait_for_next(self, settled: FailTaskResult) -> None:
        """Wait until the next attempt may begin, then give the task back to the dispatcher."""
        self._show(f"Waits for its next attempt, due {settled.at}")
        left = timedelta(0) if settled.at is None else settled.at - workflow.now()
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._must_look,
                timeout=max(left, timedelta(0)),
                timeout_summary="next attempt",
            )
        await workflow.execute_activity(
            names.REQUEUE_TASK_ACTIVITY,
            RequeueTaskInput(task_id=self._state.task_id, execution=self._state.execution),
            result_type=TaskSettled,
            start_to_close_timeout=policies.RECORD_TIMEOUT,
            retry_policy=policies.RECORD_RETRY,
            summary="give it back to the dispatcher",
        )

    async def _close(self) -> None:
        """The run was cancelled: bring the record to it, unless it came from there."""
        await workflow.execute_activity(
            names.CLOSE_TASK_ACTIVITY,
            CloseTaskInput(task_id=self._state.task_id, execution=self._state.execution),
            result_type=TaskSettled,
            start_to_close_timeout=policies.RECORD_TIMEOUT,
            retry_policy=policies.RECORD_RETRY,
            summary="close",
        )
        await workflow.wait_condition(workflow.all_handlers_finished)

    def _show(self, doing: str) -> None:
        workflow.set_current_details(visibility.task_details(self._state, doing, self._spent))


def _reason(error: ActivityError) -> tuple[str, str]:
    """Return the code and the public sentence of what went wrong."""
    cause = error.cause
    if isinstance(cause, ApplicationError):
        return cause.type or "error", cause.message
    return "error", "The model call failed"


def _shortage(error: ActivityError) -> Shortage | None:
    """Return which budget was short, where one was."""
    cause = error.cause
    details = cause.details if isinstance(cause, ApplicationError) else ()
    return Shortage.model_validate(details[0]) if details else None

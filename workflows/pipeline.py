"""A pipeline's run: steps one after the other or side by side, until none is left.

Started by: whoever started the run, by the outbox; the relay starts what a crash left.
Id: `pipeline-run-5`.
Messages: signal `wake` (look at the record: a task has ended, or the run was cancelled there).
Lifetime: until nothing is left to do, the run has taken too long, or the record says that it is
over. It continues as new past `HISTORY_EVENTS`, with one state object.

It decides over ids, states and seconds. Conditions, templates and outputs stay in the record,
where the activities look at them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from pydantic import BaseModel

    from schema.domain.pipelines import RunStatus, StepStatus
    from schema.payloads import names
    from schema.payloads.conversations import WakeInput
    from schema.payloads.pipelines import (
        BegunRun,
        FinishReason,
        FinishRun,
        LookAtRun,
        PipelineResult,
        PipelineState,
        Plan,
        RunInput,
        RunNews,
        StartSteps,
        StepAttempt,
        StepMark,
        StepNews,
        WatchedStep,
    )

with workflow.unsafe.sandbox_import_notification_policy(
    workflow.SandboxImportNotificationPolicy.SILENT
):
    from workflows import policies, visibility
    from workflows.pipeline_order import Decision, decide

HISTORY_EVENTS = 400
"""A run continues as new between two rounds past this many events."""
BELT = timedelta(minutes=10)
"""How often the record is looked at while tasks run, should a wake-up be lost."""

_Result = TypeVar("_Result", bound=BaseModel)


@workflow.defn(name=names.PIPELINE_WORKFLOW)
class PipelineWorkflow:
    """Starts what is ready, and waits for what runs."""

    @workflow.init
    def __init__(self, state: PipelineState) -> None:
        self._state = state
        self._status = RunStatus.RUNNING
        self._belt: datetime | None = None

    @workflow.run
    async def run(self, state: PipelineState) -> PipelineResult:
        """See the run to its end."""
        try:
            await self._drive()
        except (asyncio.CancelledError, ActivityError) as error:
            if is_cancelled_exception(error):
                await self._finish(RunStatus.CANCELLED, FinishReason.CANCELLED)
                raise
            await self._finish(RunStatus.FAILED, FinishReason.BROKEN)
        await workflow.wait_condition(workflow.all_handlers_finished)
        self._show(Decision([], []))
        _show_status(self._status)
        return PipelineResult(run_id=state.run_id, status=self._status)

    @workflow.signal(name=names.WAKE_SIGNAL)
    def wake(self, message: WakeInput | None = None) -> None:
        """Look at the record."""
        self._state.must_look = True

    async def _drive(self) -> None:
        plan = self._state.plan or await self._begin()
        while plan is not None and self._status.is_active:
            if self._is_long():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(self._state)
            if self._is_late():
                await self._finish(RunStatus.FAILED, FinishReason.TIMED_OUT)
            elif self._state.must_look or self._has_due():
                await self._look(plan)
            else:
                await self._act(plan)

    async def _act(self, plan: Plan) -> None:
        """Do what is to be done, or wait until there is something."""
        decision = decide(plan, self._state.marks, workflow.now())
        if decision.outcome is not None:
            await self._finish(decision.outcome, FinishReason.STEPS)
        elif decision.skip or decision.start:
            await self._start(plan, decision)
        else:
            self._show(decision)
            await self._sleep()

    async def _begin(self) -> Plan | None:
        begun = await self._ask(
            names.BEGIN_RUN_ACTIVITY, RunInput(run_id=self._state.run_id), BegunRun, "begin"
        )
        self._status = begun.status
        if begun.plan is not None:
            self._state.plan = begun.plan
            self._state.marks = [StepMark() for _ in begun.plan.steps]
            self._state.deadline = workflow.now() + timedelta(seconds=begun.left_seconds)
            self._take(begun.plan, begun.steps)
            _show_status(begun.status)
        return begun.plan

    async def _look(self, plan: Plan) -> None:
        """Bring what runs up to date."""
        state, now = self._state, workflow.now()
        state.must_look = False
        self._belt = None
        watched = [
            WatchedStep(
                step_id=step.id,
                attempt=mark.attempt,
                is_over=mark.due is not None and mark.due <= now,
                is_late=mark.deadline is not None and mark.deadline <= now,
            )
            for step, mark in zip(plan.steps, state.marks, strict=True)
            if mark.status is StepStatus.RUNNING
        ]
        asked = LookAtRun(run_id=state.run_id, steps=watched)
        news = await self._ask(
            names.LOOK_AT_RUN_ACTIVITY, asked, RunNews, f"look at {len(watched)} steps that run"
        )
        self._status = news.status
        self._take(plan, news.steps)

    async def _start(self, plan: Plan, decision: Decision) -> None:
        """Start a round of steps, and store what is passed over."""
        self._show(decision)
        marks = self._state.marks
        asked = StartSteps(
            run_id=self._state.run_id,
            start=[
                StepAttempt(step_id=plan.steps[place].id, attempt=marks[place].attempt + 1)
                for place in decision.start
            ],
            skip=[plan.steps[place].id for place in decision.skip],
        )
        summary = f"start {len(asked.start)} steps, skip {len(asked.skip)}"
        news = await self._ask(names.START_STEPS_ACTIVITY, asked, RunNews, summary)
        self._status = news.status
        self._take(plan, news.steps)

    async def _finish(self, status: RunStatus, reason: FinishReason) -> None:
        asked = FinishRun(run_id=self._state.run_id, status=status, reason=reason)
        news = await self._ask(names.FINISH_RUN_ACTIVITY, asked, RunNews, f"end as {status.value}")
        self._status = news.status

    def _take(self, plan: Plan, news: list[StepNews]) -> None:
        """Note how steps stand now. Times are counted from here, by the workflow's clock."""
        places = {step.id: place for place, step in enumerate(plan.steps)}
        now = workflow.now()
        for told in news:
            place = places[told.step_id]
            before, timeout = self._state.marks[place], plan.steps[place].timeout_seconds
            mark = StepMark(status=told.status, attempt=told.attempt)
            if told.wait_seconds is not None:
                mark.due = now + timedelta(seconds=told.wait_seconds)
            if told.status is StepStatus.RUNNING and timeout is not None:
                is_known = before.attempt == told.attempt and before.deadline is not None
                mark.deadline = before.deadline if is_known else now + timedelta(seconds=timeout)
            self._state.marks[place] = mark

    async def _sleep(self) -> None:
        """Wait for a wake-up, or for the next moment at which something is due."""
        moments = [moment for mark in self._state.marks for moment in _moments(mark)]
        if self._state.deadline is not None:
            moments.append(self._state.deadline)
        if any(mark.status is StepStatus.RUNNING and not mark.due for mark in self._state.marks):
            self._belt = workflow.now() + BELT
            moments.append(self._belt)
        left = min(moments) - workflow.now()
        with suppress(TimeoutError):  # what is due is found by the clock
            await workflow.wait_condition(
                lambda: self._state.must_look,
                timeout=max(left, timedelta(0)),
                timeout_summary="the next step, attempt or look",
            )

    def _has_due(self) -> bool:
        """Whether the time of something that runs is over, or the record is to be looked at."""
        now = workflow.now()
        if self._belt is not None and self._belt <= now:
            return True
        return any(
            moment <= now
            for mark in self._state.marks
            if mark.status is StepStatus.RUNNING
            for moment in _moments(mark)
        )

    def _is_late(self) -> bool:
        return self._state.deadline is not None and self._state.deadline <= workflow.now()

    def _is_long(self) -> bool:
        info = workflow.info()
        return (
            info.is_continue_as_new_suggested()
            or info.get_current_history_length() > HISTORY_EVENTS
        )

    async def _ask(
        self, activity: str, asked: BaseModel, result: type[_Result], summary: str
    ) -> _Result:
        return await workflow.execute_activity(
            activity,
            asked,
            result_type=result,
            start_to_close_timeout=policies.PIPELINE_TIMEOUT,
            heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
            retry_policy=policies.RECORD_RETRY,
            summary=summary,
        )

    def _show(self, decision: Decision) -> None:
        workflow.set_current_details(visibility.pipeline_details(self._state, decision.start))


def _moments(mark: StepMark) -> list[datetime]:
    """Return when something of a step is due: only of one that runs, or waits for an attempt."""
    if mark.status is StepStatus.PENDING:
        return [] if mark.due is None else [mark.due]
    return [moment for moment in (mark.due, mark.deadline) if moment is not None]


def _show_status(status: RunStatus) -> None:
    updates = visibility.pipeline_status(status)
    workflow.upsert_search_attributes(updates)  # pyright: ignore[reportUnknownMemberType]  # the SDK leaves a type argument open

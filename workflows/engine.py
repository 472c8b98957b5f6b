"""The core's WorkflowEngine on Temporal's client.

A derived id is started once for ever: USE_EXISTING joins a run that is open, REJECT_DUPLICATE
refuses to run a finished id again (alone, USE_EXISTING would).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TypedDict

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import (
    Priority,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from conclave.errors import Conflict, ExecutionClosed, Unavailable
from schema.domain.inbox import InboxItem
from schema.payloads import names
from schema.payloads.approvals import ApprovalInput
from schema.payloads.checkout import CheckoutInput, RemovalInput
from schema.payloads.conversations import (
    AdvanceInput,
    AdvanceOutcome,
    AdvanceResult,
    ConversationResult,
    ConversationState,
    WakeInput,
)
from schema.payloads.pipelines import PipelineState
from schema.payloads.tasks import AmendInput, AmendResult, TaskInput
from workflows import visibility
from workflows.trigger_engine import TemporalTriggerEngine

_PROBE_SECONDS = 1.0
_LIVE_SECONDS = 75.0
"""A poll that found nothing lasts a minute: a poller silent for longer is gone."""
_TOO_MANY_UPDATES = RPCStatusCode.RESOURCE_EXHAUSTED


class _StartOptions(TypedDict):
    id: str
    task_queue: str
    id_reuse_policy: WorkflowIDReusePolicy
    id_conflict_policy: WorkflowIDConflictPolicy
    search_attributes: TypedSearchAttributes
    static_summary: str
    static_details: str


class TemporalEngine:
    """Starts, wakes and asks workflows. Raises `Unavailable` and `ExecutionClosed` alone."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.triggers = TemporalTriggerEngine(client)

    async def start_conversation(self, state: ConversationState) -> None:
        """Start a conversation's run; already running is success."""
        await self._start(state)

    async def wake_conversation(self, state: ConversationState) -> None:
        """Signal the run, starting it if there is none."""
        await self._start(state, signal=names.WAKE_SIGNAL)

    async def _start(self, state: ConversationState, *, signal: str | None = None) -> None:
        async with _translated():
            await self._client.start_workflow(
                names.CONVERSATION_WORKFLOW,
                state,
                start_signal=signal,
                start_signal_args=[] if signal is None else [WakeInput()],
                **_options(state),
            )

    async def advance(
        self, state: ConversationState, message: AdvanceInput, *, started: bool
    ) -> AdvanceResult:
        """Send the Update and wait for its answer; ACCEPTED where the record has to tell."""
        update_id = f"inbox-{message.item.id}"
        async with _translated():
            try:
                if started:
                    handle = self._client.get_workflow_handle(_id(state))
                    return await handle.execute_update(  # pyright: ignore[reportUnknownMemberType]  # the SDK leaves a type argument open
                        names.ADVANCE_UPDATE, message, id=update_id, result_type=AdvanceResult
                    )
                return await self._advance_with_start(state, message, update_id)
            except WorkflowUpdateFailedError as error:
                return _after_failed_update(error)
            except RPCError as error:
                if error.status is _TOO_MANY_UPDATES:
                    return AdvanceResult(outcome=AdvanceOutcome.ACCEPTED)
                raise

    async def _advance_with_start(
        self, state: ConversationState, message: AdvanceInput, update_id: str
    ) -> AdvanceResult:
        operation = self._start_operation(state)
        try:
            return await self._client.execute_update_with_start_workflow(  # pyright: ignore[reportUnknownMemberType]  # as above
                names.ADVANCE_UPDATE,
                message,
                id=update_id,
                result_type=AdvanceResult,
                start_workflow_operation=operation,
            )
        except BaseException:
            # The operation holds the error too; not fetched there, it would be logged as lost.
            with suppress(BaseException):
                await operation.workflow_handle()
            raise

    def _start_operation(
        self, state: ConversationState
    ) -> WithStartWorkflowOperation[object, ConversationResult]:
        return WithStartWorkflowOperation(
            names.CONVERSATION_WORKFLOW, state, result_type=ConversationResult, **_options(state)
        )

    async def start_approval(self, asked: ApprovalInput) -> None:
        """Start an approval's run; already running is success."""
        async with _translated():
            await self._client.start_workflow(
                names.APPROVAL_WORKFLOW,
                asked,
                id=names.approval_workflow_id(asked.approval_id),
                task_queue=names.CONCLAVE_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                static_summary=visibility.approval_summary(asked),
                search_attributes=visibility.approval_attributes(),
            )

    async def wake_approval(self, approval_id: int) -> None:
        """Signal the run; `ExecutionClosed` where there is none."""
        async with _translated():
            handle = self._client.get_workflow_handle(names.approval_workflow_id(approval_id))
            await handle.signal(names.WAKE_SIGNAL, WakeInput())

    async def start_checkout(self, asked: CheckoutInput) -> None:
        """Start a project's checkout; already running is success."""
        workflow_id = names.checkout_workflow_id(asked.project_id, asked.run)
        await self._start_once(names.CHECKOUT_WORKFLOW, workflow_id, asked, "checkout")

    async def cancel_checkout(self, asked: CheckoutInput) -> None:
        """Ask a checkout to stop; one that is over, or never was, is success."""
        await self._cancel(names.checkout_workflow_id(asked.project_id, asked.run))

    async def start_removal(self, asked: RemovalInput) -> None:
        """Start removing a deleted project's files; already running is success."""
        workflow_id = names.removal_workflow_id(asked.project_id)
        await self._start_once(names.REMOVAL_WORKFLOW, workflow_id, asked, "removal")

    async def _start_once(
        self, workflow: str, workflow_id: str, asked: CheckoutInput | RemovalInput, kind: str
    ) -> None:
        async with _translated():
            await self._client.start_workflow(
                workflow,
                asked,
                id=workflow_id,
                task_queue=names.CONCLAVE_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                search_attributes=visibility.project_attributes(kind),
                static_summary=f"{kind} of project {asked.project_id}",
            )

    async def start_task(self, asked: TaskInput, *, wake: bool) -> None:
        """Start an attempt at a task; already running is success.

        Its priority orders Temporal's queues; the agent is the key of fairness, so that a busy one
        does not starve the others.
        """
        async with _translated():
            await self._client.start_workflow(
                names.TASK_WORKFLOW,
                asked,
                id=names.task_workflow_id(asked.task_id, asked.run),
                task_queue=names.CONCLAVE_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                start_signal=names.WAKE_SIGNAL if wake else None,
                start_signal_args=[WakeInput()] if wake else [],
                priority=Priority(
                    priority_key=asked.rank + 1, fairness_key=f"agent-{asked.agent_id}"
                ),
                search_attributes=visibility.task_attributes(asked),
                static_summary=visibility.task_summary(asked),
            )

    async def amend_task(self, task_id: int, run: int, item: InboxItem) -> None:
        """Hand a change to the run that works on the task."""
        async with _translated():
            handle = self._client.get_workflow_handle(names.task_workflow_id(task_id, run))
            try:
                await handle.execute_update(  # pyright: ignore[reportUnknownMemberType]  # as above
                    names.AMEND_UPDATE,
                    AmendInput(item=item),
                    id=f"inbox-{item.id}",
                    result_type=AmendResult,
                )
            except WorkflowUpdateFailedError as error:
                raise Conflict("That attempt is ending.") from error

    async def cancel_task(self, task_id: int, run: int) -> None:
        """Ask an attempt to stop; one that is over, or never was, is success."""
        await self._cancel(names.task_workflow_id(task_id, run))

    async def _cancel(self, workflow_id: str) -> None:
        with suppress(ExecutionClosed):
            async with _translated():
                await self._client.get_workflow_handle(workflow_id).cancel()

    async def start_pipeline(self, state: PipelineState) -> None:
        """Start the workflow of a pipeline's run; already running is success."""
        async with _translated():
            await self._client.start_workflow(
                names.PIPELINE_WORKFLOW,
                state,
                id=names.pipeline_workflow_id(state.run_id),
                task_queue=names.CONCLAVE_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                search_attributes=visibility.pipeline_attributes(),
                static_summary=visibility.pipeline_summary(state),
                static_details=visibility.pipeline_static_details(state),
            )

    async def wake_pipeline(self, run_id: int) -> None:
        """Signal the workflow of a run; `ExecutionClosed` where there is none."""
        async with _translated():
            handle = self._client.get_workflow_handle(names.pipeline_workflow_id(run_id))
            await handle.signal(names.WAKE_SIGNAL, WakeInput())

    async def is_reachable(self) -> bool:
        """Whether the server answers within a second."""
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                return await self._client.service_client.check_health(
                    timeout=timedelta(seconds=_PROBE_SECONDS)
                )
        except (RPCError, RuntimeError, TimeoutError):
            return False

    async def live_workers(self) -> int:
        """Workers that polled the main queue lately; 0 when the server does not say."""
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=names.CONCLAVE_QUEUE),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        try:
            described = await self._client.workflow_service.describe_task_queue(
                request, timeout=timedelta(seconds=_PROBE_SECONDS)
            )
        except (RPCError, RuntimeError):
            return 0
        now = time.time()
        return len(
            {
                poller.identity
                for poller in described.pollers
                if now - poller.last_access_time.seconds < _LIVE_SECONDS
            }
        )


def _options(state: ConversationState) -> _StartOptions:
    """Return how a run is started, whichever call does it."""
    return {
        "id": _id(state),
        "task_queue": names.CONCLAVE_QUEUE,
        "id_reuse_policy": WorkflowIDReusePolicy.REJECT_DUPLICATE,
        "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
        "search_attributes": visibility.start_attributes(state),
        "static_summary": visibility.summary(state),
        "static_details": visibility.static_details(state),
    }


def _id(state: ConversationState) -> str:
    return names.conversation_workflow_id(state.conversation_id, state.execution)


def _after_failed_update(error: WorkflowUpdateFailedError) -> AdvanceResult:
    """The run ended with the Update unanswered: the record knows. A refusal is the caller's."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type == "AcceptedUpdateCompletedWorkflow":
        return AdvanceResult(outcome=AdvanceOutcome.ACCEPTED)
    raise error


@asynccontextmanager
async def _translated() -> AsyncGenerator[None]:
    """Turn Temporal's errors into the core's."""
    try:
        yield
    except WorkflowAlreadyStartedError as error:
        raise ExecutionClosed("That run is over.") from error
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise ExecutionClosed("That run is over.") from error
        raise Unavailable("Temporal cannot be reached.", dependency="temporal") from error
    except (WorkflowUpdateRPCTimeoutOrCancelledError, RuntimeError) as error:
        raise Unavailable("Temporal did not answer in time.", dependency="temporal") from error

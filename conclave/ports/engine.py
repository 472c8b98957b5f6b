"""What the core asks of the durable engine, and of what runs there."""

from __future__ import annotations

from typing import Protocol

from conclave.db import Transaction
from conclave.ports.triggers import TriggerEngine
from schema.domain.inbox import InboxItem
from schema.payloads.approvals import ApprovalInput
from schema.payloads.checkout import CheckoutInput, RemovalInput
from schema.payloads.conversations import AdvanceInput, AdvanceResult, ConversationState
from schema.payloads.pipelines import PipelineState
from schema.payloads.tasks import TaskInput


class WorkflowEngine(Protocol):
    """What the core asks of the durable engine.

    Every call may be made twice. Raises `Unavailable` when the engine cannot be reached and
    `ExecutionClosed` when that execution is over.
    """

    @property
    def triggers(self) -> TriggerEngine:
        """What triggers ask of it."""
        ...

    async def start_conversation(self, state: ConversationState) -> None:
        """Start the run; already running is success."""
        ...

    async def wake_conversation(self, state: ConversationState) -> None:
        """Say that the record has changed, starting the run if there is none."""
        ...

    async def advance(
        self, state: ConversationState, message: AdvanceInput, *, started: bool
    ) -> AdvanceResult:
        """Hand over an inbox row and wait for its answer.

        `started` says that a run is expected to exist already, which is cheaper.
        """
        ...

    async def start_approval(self, asked: ApprovalInput) -> None:
        """Start an approval's run; already running is success."""
        ...

    async def wake_approval(self, approval_id: int) -> None:
        """Say that the approval was decided; a run that is not there needs no telling."""

    async def start_checkout(self, asked: CheckoutInput) -> None:
        """Start making a project's files; already running is success."""
        ...

    async def cancel_checkout(self, asked: CheckoutInput) -> None:
        """Ask a checkout to stop; one that is over, or never was, is success."""
        ...

    async def start_removal(self, asked: RemovalInput) -> None:
        """Start removing a deleted project's files; already running is success."""
        ...

    async def start_task(self, asked: TaskInput, *, wake: bool) -> None:
        """Start an attempt at a task; already running is success. `wake`: and let it look."""
        ...

    async def amend_task(self, task_id: int, run: int, item: InboxItem) -> None:
        """Hand a change to the run that works on it. Raises `Conflict` where that is ending."""
        ...

    async def cancel_task(self, task_id: int, run: int) -> None:
        """Ask an attempt to stop; one that is over, or never was, is success."""

    async def start_pipeline(self, state: PipelineState) -> None:
        """Start the workflow of a pipeline's run; already running is success."""
        ...

    async def wake_pipeline(self, run_id: int) -> None:
        """Say that the record of a run has changed; `ExecutionClosed` where nothing runs."""
        ...

    async def is_reachable(self) -> bool:
        """Whether the engine answers, within a second."""
        ...

    async def live_workers(self) -> int:
        """Workers that asked for work within the last 75 seconds."""
        ...


class ConversationControl(Protocol):
    """What a circle's life does to its conversations, inside the circle's transaction."""

    async def pause_circle(self, tx: Transaction, circle_id: int) -> None:
        """Pause what runs, at its next turn boundary."""
        ...

    async def resume_circle(self, tx: Transaction, circle_id: int) -> None:
        """Let what was paused go on."""
        ...

    async def end_circle(self, tx: Transaction, circle_id: int) -> None:
        """End every conversation of the circle, for good."""
        ...


class Chore(Protocol):
    """Something that upkeep does again and again (`schema.payloads.upkeep.ChoreName`)."""

    async def run(self) -> int:
        """Do a bounded piece of it, a second's work or so; return how many items were done.

        0 says that nothing is left, and should then have cost one cheap query. It may run twice
        at once, here and in another process. Raises ConclaveError.
        """
        ...

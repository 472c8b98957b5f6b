"""A durable engine that only remembers what it was told."""

from __future__ import annotations

from dataclasses import dataclass, field

from conclave.errors import Unavailable
from schema.domain.inbox import InboxItem
from schema.payloads.approvals import ApprovalInput
from schema.payloads.checkout import CheckoutInput, RemovalInput
from schema.payloads.conversations import (
    AdvanceInput,
    AdvanceOutcome,
    AdvanceResult,
    ConversationState,
)
from schema.payloads.pipelines import PipelineState
from schema.payloads.tasks import TaskInput
from tests.fakes.triggers import FakeTriggerEngine


@dataclass
class FakeEngine:
    """Implements `conclave.ports.engine.WorkflowEngine`; `down` makes every call fail."""

    started: list[ConversationState] = field(default_factory=list[ConversationState])
    woken: list[ConversationState] = field(default_factory=list[ConversationState])
    asked: list[AdvanceInput] = field(default_factory=list[AdvanceInput])
    approvals_started: list[int] = field(default_factory=list[int])
    approvals_woken: list[int] = field(default_factory=list[int])
    checkouts: list[CheckoutInput] = field(default_factory=list[CheckoutInput])
    cancelled: list[CheckoutInput] = field(default_factory=list[CheckoutInput])
    removals: list[RemovalInput] = field(default_factory=list[RemovalInput])
    tasks: list[TaskInput] = field(default_factory=list[TaskInput])
    amended: list[InboxItem] = field(default_factory=list[InboxItem])
    tasks_cancelled: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    pipelines_started: list[int] = field(default_factory=list[int])
    pipelines_woken: list[int] = field(default_factory=list[int])
    triggers: FakeTriggerEngine = field(default_factory=FakeTriggerEngine)
    workers: int = 1
    down: bool = False

    def reset(self) -> None:
        """Forget everything and be well again."""
        self.started.clear()
        self.woken.clear()
        self.asked.clear()
        self.approvals_started.clear()
        self.approvals_woken.clear()
        self.checkouts.clear()
        self.cancelled.clear()
        self.removals.clear()
        self.tasks.clear()
        self.amended.clear()
        self.tasks_cancelled.clear()
        self.pipelines_started.clear()
        self.pipelines_woken.clear()
        self.triggers.reset()
        self.workers = 1
        self.down = False

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("Temporal cannot be reached.", dependency="temporal")

    async def start_conversation(self, state: ConversationState) -> None:
        self._answer()
        self.started.append(state)

    async def wake_conversation(self, state: ConversationState) -> None:
        self._answer()
        self.woken.append(state)

    async def advance(
        self, state: ConversationState, message: AdvanceInput, *, started: bool
    ) -> AdvanceResult:
        self._answer()
        self.asked.append(message)
        return AdvanceResult(outcome=AdvanceOutcome.ACCEPTED)

    async def start_approval(self, asked: ApprovalInput) -> None:
        self._answer()
        self.approvals_started.append(asked.approval_id)

    async def wake_approval(self, approval_id: int) -> None:
        self._answer()
        self.approvals_woken.append(approval_id)

    async def start_checkout(self, asked: CheckoutInput) -> None:
        self._answer()
        self.checkouts.append(asked)

    async def cancel_checkout(self, asked: CheckoutInput) -> None:
        self._answer()
        self.cancelled.append(asked)

    async def start_removal(self, asked: RemovalInput) -> None:
        self._answer()
        self.removals.append(asked)

    async def start_task(self, asked: TaskInput, *, wake: bool) -> None:
        self._answer()
        self.tasks.append(asked)

    async def amend_task(self, task_id: int, run: int, item: InboxItem) -> None:
        self._answer()
        self.amended.append(item)

    async def cancel_task(self, task_id: int, run: int) -> None:
        self._answer()
        self.tasks_cancelled.append((task_id, run))

    async def start_pipeline(self, state: PipelineState) -> None:
        self._answer()
        self.pipelines_started.append(state.run_id)

    async def wake_pipeline(self, run_id: int) -> None:
        self._answer()
        self.pipelines_woken.append(run_id)

    async def is_reachable(self) -> bool:
        return not self.down

    async def live_workers(self) -> int:
        return 0 if self.down else self.workers

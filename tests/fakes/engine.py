"""A durable engine that only remembers what it was told."""

from __future__ import annotations

from dataclasses import dataclass, field

from conclave.errors import Unavailable
from schema.payloads.approvals import ApprovalInput
from schema.payloads.checkout import CheckoutInput, RemovalInput
from schema.payloads.conversations import (
    AdvanceInput,
    AdvanceOutcome,
    AdvanceResult,
    ConversationState,
)
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

    async def is_reachable(self) -> bool:
        return not self.down

    async def live_workers(self) -> int:
        return 0 if self.down else self.workers

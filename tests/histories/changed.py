"""Workflows whose decisions changed: what the replay of histories has to refuse."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from schema.payloads import names
    from schema.payloads.approvals import ApprovalInput, ApprovalResult
    from schema.payloads.checkout import (
        CheckoutInput,
        CheckoutResult,
        RemovalInput,
        RemovalResult,
    )
    from schema.payloads.conversations import ConversationResult, ConversationState
    from schema.payloads.pipelines import PipelineResult, PipelineState
    from schema.payloads.tasks import TaskInput, TaskRunResult
    from schema.payloads.triggers import CheckInput, CheckResult, FiringResult, TriggerInput
    from schema.payloads.upkeep import UpkeepInput, UpkeepResult
    from workflows.approval import ApprovalWorkflow
    from workflows.checkout import CheckoutWorkflow, RemovalWorkflow
    from workflows.conversation import ConversationWorkflow
    from workflows.pipeline import PipelineWorkflow
    from workflows.task import TaskWorkflow
    from workflows.trigger import TriggerCheckWorkflow, TriggerWorkflow
    from workflows.upkeep import UpkeepWorkflow


@workflow.defn(name=names.CONVERSATION_WORKFLOW)
class LooksTwiceFirst(ConversationWorkflow):
    """Looks at the record before anything else, and again: an activity more than there was, also
    where a wake-up made it look first."""

    @workflow.init
    def __init__(self, state: ConversationState) -> None:
        super().__init__(state)

    @workflow.run
    async def run(self, state: ConversationState) -> ConversationResult:
        """Look and look, then talk."""
        await self._look()
        await self._look()
        return await super().run(state)


@workflow.defn(name=names.UPKEEP_WORKFLOW)
class SleepsFirst(UpkeepWorkflow):
    """Waits before anything else: a timer more than there was."""

    @workflow.run
    async def run(self, asked: UpkeepInput) -> UpkeepResult:
        """Sleep, then do the chores."""
        await workflow.sleep(1)
        return await super().run(asked)


@workflow.defn(name=names.CHECKOUT_WORKFLOW)
class SettlesFirst(CheckoutWorkflow):
    """Settles before anything was tried."""

    @workflow.run
    async def run(self, asked: CheckoutInput) -> CheckoutResult:
        """Settle, then clone."""
        await self._settle(asked, "before")
        return await super().run(asked)


@workflow.defn(name=names.REMOVAL_WORKFLOW)
class WaitsFirst(RemovalWorkflow):
    """Starts a timer where there was none."""

    @workflow.run
    async def run(self, asked: RemovalInput) -> RemovalResult:
        """Wait, then remove."""
        await workflow.sleep(1)
        return await super().run(asked)


@workflow.defn(name=names.APPROVAL_WORKFLOW)
class ThinksFirst(ApprovalWorkflow):
    """Lets a second pass before it looks at the record."""

    @workflow.init
    def __init__(self, asked: ApprovalInput) -> None:
        super().__init__(asked)

    @workflow.run
    async def run(self, asked: ApprovalInput) -> ApprovalResult:
        """Wait, then look."""
        await workflow.sleep(1)
        return await super().run(asked)


@workflow.defn(name=names.TASK_WORKFLOW)
class AsksFirst(TaskWorkflow):
    """Looks at the record before the first turn."""

    @workflow.init
    def __init__(self, state: TaskInput) -> None:
        super().__init__(state)

    @workflow.run
    async def run(self, state: TaskInput) -> TaskRunResult:
        """Look, then work."""
        await self._read()
        return await super().run(state)


@workflow.defn(name=names.PIPELINE_WORKFLOW)
class RestsFirst(PipelineWorkflow):
    """Rests before it begins, or goes on."""

    @workflow.init
    def __init__(self, state: PipelineState) -> None:
        super().__init__(state)

    @workflow.run
    async def run(self, state: PipelineState) -> PipelineResult:
        """Rest, then see the run to its end."""
        await workflow.sleep(1)
        return await super().run(state)


@workflow.defn(name=names.TRIGGER_WORKFLOW)
class DawdlesFirst(TriggerWorkflow):
    """Lets a second pass before it claims the firing."""

    @workflow.run
    async def run(self, asked: TriggerInput) -> FiringResult:
        """Wait, then fire."""
        await workflow.sleep(1)
        return await super().run(asked)


@workflow.defn(name=names.TRIGGER_CHECK_WORKFLOW)
class BlinksFirst(TriggerCheckWorkflow):
    """Lets a second pass before it looks."""

    @workflow.run
    async def run(self, asked: CheckInput) -> CheckResult:
        """Wait, then look."""
        await workflow.sleep(1)
        return await super().run(asked)


CHANGED: tuple[type, ...] = (
    LooksTwiceFirst,
    SleepsFirst,
    SettlesFirst,
    WaitsFirst,
    ThinksFirst,
    AsksFirst,
    RestsFirst,
    DawdlesFirst,
    BlinksFirst,
)

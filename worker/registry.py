"""Which workflows and activities this worker knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from worker.parts import WorkerParts
from workflows.approval import ApprovalWorkflow
from workflows.checkout import CheckoutWorkflow, RemovalWorkflow
from workflows.conversation import ConversationWorkflow
from workflows.pipeline import PipelineWorkflow
from workflows.task import TaskWorkflow
from workflows.trigger import TriggerCheckWorkflow, TriggerWorkflow
from workflows.upkeep import UpkeepWorkflow

WORKFLOWS: Sequence[type] = (
    ConversationWorkflow,
    ApprovalWorkflow,
    UpkeepWorkflow,
    CheckoutWorkflow,
    RemovalWorkflow,
    TaskWorkflow,
    PipelineWorkflow,
    TriggerWorkflow,
    TriggerCheckWorkflow,
)


def activities_of(parts: WorkerParts) -> list[Callable[..., object]]:
    """Return the activities of the main queue, quick tools too, bound to their dependencies."""
    return [
        parts.llm.complete,
        parts.llm.compact,
        parts.conversations.look,
        parts.conversations.settle,
        parts.conversations.finish,
        parts.approvals.look,
        parts.approvals.decide,
        parts.upkeep.run,
        parts.git.clone,
        parts.git.settle,
        parts.git.remove,
        parts.pipelines.begin,
        parts.pipelines.look,
        parts.pipelines.start,
        parts.pipelines.finish,
        parts.tools.execute,
        parts.tasks.look,
        parts.tasks.fail,
        parts.tasks.requeue,
        parts.tasks.close,
        parts.triggers.claim,
        parts.triggers.act,
        parts.triggers.settle,
        parts.triggers.check,
    ]


def tool_activities_of(parts: WorkerParts) -> list[Callable[..., object]]:
    """Return the activities of the queue for tools, which has slots of its own."""
    return [parts.tools.execute]

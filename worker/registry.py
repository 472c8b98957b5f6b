"""Which workflows and activities this worker knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from conclave.container import WorkerParts
from workflows.checkout import CheckoutWorkflow, RemovalWorkflow
from workflows.conversation import ConversationWorkflow

WORKFLOWS: Sequence[type] = (ConversationWorkflow, CheckoutWorkflow, RemovalWorkflow)


def activities_of(parts: WorkerParts) -> list[Callable[..., object]]:
    """Return every activity, bound to its dependencies."""
    return [
        parts.llm.complete,
        parts.conversations.look,
        parts.conversations.settle,
        parts.git.clone,
        parts.git.settle,
        parts.git.remove,
    ]

"""Whom the actions of triggers turn to. Each is set where it is built; None: not in this build."""

from __future__ import annotations

from dataclasses import dataclass

from conclave.ports.notifications import Notifier
from conclave.ports.pipelines import PipelineDesk
from conclave.ports.triggers import (
    BudgetGauge,
    ConversationStarter,
    PipelineCatalogue,
    TaskMaker,
)


@dataclass
class Desks:
    """Who makes tasks, runs, notifications and conversations, and knows of them."""

    tasks: TaskMaker | None = None
    pipelines: PipelineDesk | None = None
    catalogue: PipelineCatalogue | None = None
    notifier: Notifier | None = None
    conversations: ConversationStarter | None = None
    budget: BudgetGauge | None = None

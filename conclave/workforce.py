"""The composition root's second half: what makes work and sees it to its end.

Built by `conclave.container` alone. Each part is a field of `Workforce`, and an attribute of
`Core`.
"""

from __future__ import annotations

from dataclasses import dataclass

from conclave.ground import Ground
from conclave.pipelines.absent import NoNotifier, NoTasks
from conclave.pipelines.assembly import Pipelines, build_pipelines


@dataclass(frozen=True)
class Workforce:
    """Tasks, pipelines, triggers, budgets and what they need."""

    pipelines: Pipelines


def build_workforce(ground: Ground) -> Workforce:
    """Build the services of work on what the rest of the core is."""
    pipelines = build_pipelines(
        ground.db,
        ground.events,
        ground.audit,
        ground.mailbox,
        ground.errands,
        ground.engine,
        tasks=NoTasks(),
        notifier=NoNotifier(),
    )
    return Workforce(pipelines=pipelines)

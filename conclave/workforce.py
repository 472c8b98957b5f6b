"""The composition root's second half: what makes work and sees it to its end.

Built by `conclave.container` alone. Each part is a field of `Workforce`, and an attribute of
`Core`.
"""

from __future__ import annotations

from dataclasses import dataclass

from conclave.costs.budgets import BudgetService
from conclave.costs.service import CostService
from conclave.ground import Ground


@dataclass(frozen=True)
class Workforce:
    """Tasks, pipelines, triggers, budgets and what they need."""

    budgets: BudgetService
    costs: CostService


def build_workforce(ground: Ground) -> Workforce:
    """Build the services of work on what the rest of the core is."""
    budgets = BudgetService(ground.db, ground.events)
    return Workforce(
        budgets=budgets,
        costs=CostService(ground.db, ground.audit, budgets),
    )

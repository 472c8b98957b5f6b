"""The composition root's second half: what makes work and sees it to its end.

Built by `conclave.container` alone. Each part is a field of `Workforce`, and an attribute of
`Core`.
"""

from __future__ import annotations

from dataclasses import dataclass

from conclave.breakers.administration import BreakerAdministration
from conclave.breakers.service import BreakerService
from conclave.ground import Ground


@dataclass(frozen=True)
class Workforce:
    """Tasks, pipelines, triggers, budgets and what they need."""

    breakers: BreakerService
    breaker_desk: BreakerAdministration


def build_workforce(ground: Ground) -> Workforce:
    """Build the services of work on what the rest of the core is."""
    breakers = BreakerService(ground.db, ground.events)
    return Workforce(
        breakers=breakers,
        breaker_desk=BreakerAdministration(ground.db, ground.audit, breakers.record),
    )

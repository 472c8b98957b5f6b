"""The composition root's second half: what makes work and sees it to its end.

Built by `conclave.container` alone. Each part is a field of `Workforce`, and an attribute of
`Core`.
"""

from __future__ import annotations

from dataclasses import dataclass

from conclave.agents.standing import AgentStanding
from conclave.analytics.service import AnalyticsService
from conclave.ground import Ground
from conclave.notifications.service import NotificationService


@dataclass(frozen=True)
class Workforce:
    """Tasks, pipelines, triggers, budgets and what they need."""

    notifications: NotificationService
    agent_record: AgentStanding
    analytics: AnalyticsService


def build_workforce(ground: Ground) -> Workforce:
    """Build the services of work on what the rest of the core is."""
    notifications = NotificationService(ground.db, ground.events, ground.audit)
    return Workforce(
        notifications=notifications,
        agent_record=AgentStanding(ground.events, notifications, ground.plain),
        analytics=AnalyticsService(ground.db),
    )

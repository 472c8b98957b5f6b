"""The composition root's second half: what makes work and sees it to its end.

Built by `conclave.container` alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from conclave.adapters.net.web import GuardedWeb
from conclave.agents.standing import AgentStanding
from conclave.analytics.service import AnalyticsService
from conclave.breakers.administration import BreakerAdministration
from conclave.breakers.service import BreakerService
from conclave.conversations.threads import ThreadService
from conclave.costs.budgets import BudgetService
from conclave.costs.service import CostService
from conclave.ground import Ground
from conclave.notifications.service import NotificationService
from conclave.pipelines.assembly import Pipelines, build_pipelines
from conclave.pipelines.dispatch import TARGET_KIND as PIPELINE_TARGET
from conclave.ports.files import FileDesk
from conclave.ports.tools import ToolDesk
from conclave.ports.triggers import ConversationStarter
from conclave.tasks.attempts import TaskAttempts
from conclave.tasks.dead_letters import DeadLetterService
from conclave.tasks.dispatcher import Dispatcher
from conclave.tasks.endings import TaskEndings
from conclave.tasks.progress import OverdueTasks
from conclave.tasks.service import TaskService
from conclave.tasks.turns import TaskTurnService
from conclave.tasks.wakes import TaskWakes
from conclave.triggers.assembly import Triggers, build_triggers
from conclave.triggers.desks import Desks
from schema.domain.urls import UrlPurpose

_MOST_ANSWER_BYTES = 16 * 1024
"""Of what a called webhook answers; 500 characters of it are kept."""


@dataclass(frozen=True)
class Workforce:
    """Tasks, pipelines, triggers, budgets and what they need."""

    tasks: TaskService
    dead_letters: DeadLetterService
    task_wakes: TaskWakes
    task_turns: TaskTurnService
    task_attempts: TaskAttempts
    endings: TaskEndings
    dispatcher: Dispatcher
    overdue_tasks: OverdueTasks
    notifications: NotificationService
    agent_record: AgentStanding
    analytics: AnalyticsService
    breakers: BreakerService
    breaker_desk: BreakerAdministration
    pipelines: Pipelines
    budgets: BudgetService
    costs: CostService
    triggers: Triggers


def build_workforce(
    ground: Ground, tool_desk: ToolDesk, files: FileDesk, conversations: ConversationStarter
) -> Workforce:
    """Build the services of work on what the rest of the core is."""
    notifications = NotificationService(ground.db, ground.events, ground.audit)
    agent_record = AgentStanding(ground.events, notifications, ground.plain)
    db, events, audit, mailbox = ground.db, ground.events, ground.audit, ground.mailbox
    threads = ThreadService(mailbox, tool_desk)
    wakes = TaskWakes(db, mailbox, ground.errands, ground.engine, ground.plain)
    endings = TaskEndings(events, mailbox, threads, wakes)
    endings.agents = agent_record
    dispatcher = Dispatcher(db, events, threads, wakes, endings, ground.plain)
    dispatcher.agents = agent_record
    wakes.hand_out = dispatcher.hand_out
    breakers = BreakerService(db, events)
    tasks = TaskService(db, events, audit, threads, wakes, endings, files)
    pipelines = build_pipelines(
        db,
        events,
        audit,
        mailbox,
        ground.errands,
        ground.engine,
        tasks=tasks,
        notifier=notifications,
    )
    budgets = BudgetService(db, events)
    budgets.notifier = notifications
    budgets.tasks = tasks
    wakes.waiters[PIPELINE_TARGET] = pipelines.dispatch.deliver
    costs = CostService(db, audit, budgets)
    desks = Desks(
        tasks=tasks,
        pipelines=pipelines.runs,
        catalogue=pipelines.service,
        notifier=notifications,
        conversations=conversations,
        budget=costs,
    )
    return Workforce(
        triggers=_build_triggers(ground, desks),
        tasks=tasks,
        pipelines=pipelines,
        dead_letters=DeadLetterService(db, events, audit, endings),
        task_wakes=wakes,
        task_turns=TaskTurnService(endings),
        task_attempts=TaskAttempts(db, events, threads, wakes, endings),
        endings=endings,
        dispatcher=dispatcher,
        overdue_tasks=OverdueTasks(db, events, notifications),
        notifications=notifications,
        agent_record=agent_record,
        analytics=AnalyticsService(ground.db),
        breakers=breakers,
        breaker_desk=BreakerAdministration(db, audit, breakers.record),
        budgets=budgets,
        costs=costs,
    )


def _build_triggers(ground: Ground, desks: Desks) -> Triggers:
    return build_triggers(
        ground.db,
        ground.events,
        ground.audit,
        ground.mailbox,
        ground.errands,
        ground.engine,
        references=ground.references,
        keys=ground.keys,
        web=GuardedWeb(
            ground.guard,
            limit=_MOST_ANSWER_BYTES,
            purpose=UrlPurpose.WEBHOOK,
            follow_redirects=False,
        ),
        desks=desks,
    )

"""The composition root's second half: what makes work and sees it to its end.

Built by `conclave.container` alone. Each part is a field of `Workforce`, and an attribute of
`Core`.
"""

from __future__ import annotations

from dataclasses import dataclass

from conclave.adapters.net.web import GuardedWeb
from conclave.ground import Ground
from conclave.ports.triggers import ConversationStarter
from conclave.triggers.actions import Actions
from conclave.triggers.calls import WebhookCaller
from conclave.triggers.desks import Desks
from conclave.triggers.dispatch import TriggerDispatch
from conclave.triggers.drafting import Drafting
from conclave.triggers.firing import FiringService
from conclave.triggers.ingress import Ingress
from conclave.triggers.metrics import Metrics
from conclave.triggers.sealing import TriggerBox
from conclave.triggers.service import TriggerService
from conclave.triggers.thresholds import ThresholdService
from schema.domain.urls import UrlPurpose

_MOST_ANSWER_BYTES = 16 * 1024
"""Of what a called webhook answers; 500 characters of it are kept."""


@dataclass(frozen=True)
class Workforce:
    """Tasks, pipelines, triggers, budgets and what they need."""

    desks: Desks
    """Whom the actions of triggers turn to: each is set here once it is built."""
    triggers: TriggerService
    trigger_dispatch: TriggerDispatch
    ingress: Ingress
    firings: FiringService
    thresholds: ThresholdService


def build_workforce(ground: Ground, *, conversations: ConversationStarter) -> Workforce:
    """Build the services of work on what the rest of the core is."""
    db, events, engine = ground.db, ground.events, ground.engine
    desks = Desks(conversations=conversations)
    box = TriggerBox(ground.keys)
    dispatch = TriggerDispatch(db, ground.mailbox, ground.errands, engine.triggers)
    web = GuardedWeb(
        ground.guard,
        limit=_MOST_ANSWER_BYTES,
        purpose=UrlPurpose.WEBHOOK,
        follow_redirects=False,
    )
    caller = WebhookCaller(web, ground.references, box)
    drafting = Drafting(ground.references, box, desks)
    return Workforce(
        desks=desks,
        triggers=TriggerService(db, events, ground.audit, dispatch, engine.triggers, drafting),
        trigger_dispatch=dispatch,
        ingress=Ingress(db, dispatch, box, ground.references),
        firings=FiringService(db, events, Actions(desks), caller),
        thresholds=ThresholdService(db, Metrics(engine, desks), dispatch),
    )

"""The services of triggers, built on what they stand on."""

from __future__ import annotations

from dataclasses import dataclass

from conclave.auditing import AuditLog
from conclave.crypto import Keyring
from conclave.db import Database
from conclave.errands import Errands
from conclave.events import EventLog
from conclave.mailbox import Mailbox
from conclave.ports.engine import WorkflowEngine
from conclave.ports.secrets import SecretReferences
from conclave.ports.urls import WebClient
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


@dataclass(frozen=True)
class Triggers:
    """What keeps triggers, fires them, and takes what comes from outside."""

    service: TriggerService
    dispatch: TriggerDispatch
    ingress: Ingress
    firings: FiringService
    thresholds: ThresholdService
    desks: Desks
    """Whom the actions of triggers turn to."""


def build_triggers(
    db: Database,
    events: EventLog,
    audit: AuditLog,
    mailbox: Mailbox,
    errands: Errands,
    engine: WorkflowEngine,
    *,
    references: SecretReferences,
    keys: Keyring | None,
    web: WebClient,
    desks: Desks,
) -> Triggers:
    """Build them; `web` calls what users name, and follows no redirect."""
    box = TriggerBox(keys)
    dispatch = TriggerDispatch(db, mailbox, errands, engine.triggers)
    drafting = Drafting(references, box, desks)
    return Triggers(
        service=TriggerService(db, events, audit, dispatch, engine.triggers, drafting),
        dispatch=dispatch,
        ingress=Ingress(db, dispatch, box, references),
        firings=FiringService(db, events, Actions(desks), WebhookCaller(web, references, box)),
        thresholds=ThresholdService(db, Metrics(engine, desks), dispatch),
        desks=desks,
    )

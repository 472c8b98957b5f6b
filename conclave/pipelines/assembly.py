"""The services of pipelines, built on what they stand on."""

from __future__ import annotations

from dataclasses import dataclass

from conclave.auditing import AuditLog
from conclave.db import Database
from conclave.errands import Errands
from conclave.events import EventLog
from conclave.mailbox import Mailbox
from conclave.pipelines.dispatch import RunDispatch
from conclave.pipelines.effects import StepEffects
from conclave.pipelines.record import RunRecord
from conclave.pipelines.runs import RunService
from conclave.pipelines.service import PipelineService
from conclave.ports.engine import WorkflowEngine
from conclave.ports.notifications import Notifier
from conclave.ports.tasks import TaskDesk


@dataclass(frozen=True)
class Pipelines:
    """What makes pipelines, runs them, and tells their workflows."""

    service: PipelineService
    runs: RunService
    record: RunRecord
    dispatch: RunDispatch


def build_pipelines(
    db: Database,
    events: EventLog,
    audit: AuditLog,
    mailbox: Mailbox,
    errands: Errands,
    engine: WorkflowEngine,
    *,
    tasks: TaskDesk,
    notifier: Notifier,
) -> Pipelines:
    """Build them; `runs` is the `PipelineDesk` of triggers."""
    record = RunRecord(db, events, StepEffects(tasks, notifier))
    dispatch = RunDispatch(db, mailbox, errands, engine)
    runs = RunService(db, audit, dispatch, record)
    return Pipelines(PipelineService(db, audit, runs), runs, record, dispatch)

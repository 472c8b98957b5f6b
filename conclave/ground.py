"""What every service stands on: connections, keys, logs and settings of one process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from conclave.adapters.net.guard import OutgoingGuard
from conclave.auditing import AuditLog
from conclave.configuration.plain import PlainSettings
from conclave.crypto import Keyring
from conclave.db import Database
from conclave.errands import Errands
from conclave.events import EventLog
from conclave.mailbox import Mailbox
from conclave.ports.engine import WorkflowEngine
from conclave.ports.events import EventBus
from conclave.ports.secrets import SecretReferences
from conclave.security.service import SecurityService
from conclave.settings import Settings


@dataclass(frozen=True)
class Ground:
    """What every service stands on."""

    settings: Settings
    environment: Mapping[str, str]
    db: Database
    bus: EventBus
    engine: WorkflowEngine
    keys: Keyring | None
    events: EventLog
    audit: AuditLog
    mailbox: Mailbox
    errands: Errands
    security: SecurityService
    guard: OutgoingGuard
    references: SecretReferences
    plain: PlainSettings

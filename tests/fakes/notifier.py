"""Remembers what people were told, once that is committed."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from conclave.db import Transaction
from schema.domain.notifications import Severity


@dataclass(frozen=True)
class Told:
    """One notification."""

    title: str
    message: str
    severity: Severity
    user_ids: tuple[int, ...] | None


@dataclass
class FakeNotifier:
    """Implements `conclave.ports.notifications.Notifier`."""

    told: list[Told] = field(default_factory=list[Told])
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def notify(
        self,
        tx: Transaction,
        *,
        title: str,
        message: str,
        severity: Severity = Severity.INFO,
        event_type: str | None = None,
        user_ids: Collection[int] | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> list[int]:
        told = Told(title, message, severity, None if user_ids is None else tuple(user_ids))
        tx.after_commit.append(lambda: self.told.append(told))
        return [next(self._ids)]

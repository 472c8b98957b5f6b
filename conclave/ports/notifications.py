"""Telling people in the product itself, inside the transaction that has something to tell."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from pydantic import JsonValue

from conclave.db import Transaction
from schema.domain.notifications import Severity


class Notifier(Protocol):
    """Stores in-app notifications."""

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
        """Store one for each user and return their ids; None: every active admin and operator.

        Users that do not exist are left out.
        """
        ...

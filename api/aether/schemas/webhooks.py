"""What senders of webhooks are told."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from conclave.triggers.ingress import Received


class ReceivedOut(BaseModel):
    """Stored, now or before. A duplicate runs nothing."""

    event_id: int
    status: Literal["accepted", "duplicate"]

    @classmethod
    def from_domain(cls, received: Received) -> ReceivedOut:
        """Return it in this dialect's shape."""
        return cls(
            event_id=received.event_id, status="accepted" if received.is_new else "duplicate"
        )

"""Health as this dialect writes it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, Field

from api.aether.schemas.fields import Timestamp


class HealthOut(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"
    timestamp: Timestamp = Field(default_factory=lambda: datetime.now(UTC))

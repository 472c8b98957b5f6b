"""Health as this dialect writes it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, Field

from api.platform.schemas.fields import Timestamp
from conclave.health.service import product_version


class HealthOut(BaseModel):
    """The process answers; nothing else is said."""

    status: Literal["healthy"] = "healthy"
    service: str = "conclave"
    version: str = Field(default_factory=product_version)
    timestamp: Timestamp = Field(default_factory=lambda: datetime.now(UTC))

"""What health answers tell."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from schema.domain.base import Shape


class Level(StrEnum):
    """How well something is, best first."""

    HEALTHY = "healthy"
    WARNING = "warning"
    CRITICAL = "critical"


class Overview(Shape):
    """The process answers; counts are None when the database does not."""

    version: str
    timestamp: datetime
    uptime_seconds: float
    agents_count: int | None
    circles_count: int | None
    active_tasks: int | None


class Check(Shape):
    """One thing looked at."""

    name: str
    status: Level
    message: str
    last_check: datetime
    value: str | None = None


class System(Shape):
    """The machine: sizes in bytes, shares in percent, frequency in MHz."""

    cpu_percent: float
    cpu_count: int
    cpu_frequency_mhz: float | None
    memory_total: int
    memory_available: int
    memory_used: int
    memory_percent: float
    disk_total: int
    disk_used: int
    disk_free: int
    disk_percent: float
    load_average: tuple[float, float, float]
    uptime_seconds: float

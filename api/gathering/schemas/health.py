"""Health as the root paths tell it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from conclave.health.service import worst
from conclave.health.shapes import Check, Level, Overview, System

_GIB = 1024**3


class HealthOut(BaseModel):
    """The process answers; counts are null when the database does not."""

    status: Literal["healthy"] = "healthy"
    service: Literal["conclave"] = "conclave"
    version: str
    timestamp: datetime
    uptime_seconds: float
    agents_count: int | None
    circles_count: int | None
    active_tasks: int | None

    @classmethod
    def from_domain(cls, overview: Overview) -> HealthOut:
        """Render it."""
        return cls(
            version=overview.version,
            timestamp=overview.timestamp,
            uptime_seconds=overview.uptime_seconds,
            agents_count=overview.agents_count,
            circles_count=overview.circles_count,
            active_tasks=overview.active_tasks,
        )


class CpuOut(BaseModel):
    """The processors."""

    percent: float
    count: int
    frequency_mhz: float | None


class MemoryOut(BaseModel):
    """Main memory, in GiB."""

    total_gb: float
    available_gb: float
    used_gb: float
    percent: float


class DiskOut(BaseModel):
    """The disk that holds the data directory, in GiB."""

    total_gb: float
    used_gb: float
    free_gb: float
    percent: float


class LoadOut(BaseModel):
    """Processes that wait to run, averaged."""

    one: float = Field(serialization_alias="1min")
    five: float = Field(serialization_alias="5min")
    fifteen: float = Field(serialization_alias="15min")


class SystemOut(BaseModel):
    """The machine."""

    cpu: CpuOut
    memory: MemoryOut
    disk: DiskOut
    load_average: LoadOut
    uptime_seconds: float

    @classmethod
    def from_domain(cls, system: System) -> SystemOut:
        """Render it."""
        one, five, fifteen = (round(load, 2) for load in system.load_average)
        return cls(
            cpu=CpuOut(
                percent=system.cpu_percent,
                count=system.cpu_count,
                frequency_mhz=system.cpu_frequency_mhz,
            ),
            memory=MemoryOut(
                total_gb=_gib(system.memory_total),
                available_gb=_gib(system.memory_available),
                used_gb=_gib(system.memory_used),
                percent=system.memory_percent,
            ),
            disk=DiskOut(
                total_gb=_gib(system.disk_total),
                used_gb=_gib(system.disk_used),
                free_gb=_gib(system.disk_free),
                percent=system.disk_percent,
            ),
            load_average=LoadOut(one=one, five=five, fifteen=fifteen),
            uptime_seconds=system.uptime_seconds,
        )


class CheckOut(BaseModel):
    """One thing looked at."""

    name: str
    status: Level
    value: str | None = None
    message: str
    last_check: datetime


class ChecksOut(BaseModel):
    """Everything looked at; the whole is as well as its worst part."""

    checks: list[CheckOut]
    overall_status: Level

    @classmethod
    def from_domain(cls, checks: list[Check]) -> ChecksOut:
        """Render them."""
        rows = [
            CheckOut(
                name=check.name,
                status=check.status,
                value=check.value,
                message=check.message,
                last_check=check.last_check,
            )
            for check in checks
        ]
        return cls(checks=rows, overall_status=worst(checks))


class ReadyOut(BaseModel):
    """Whether requests should be sent here, and why not."""

    ready: bool
    reason: str | None = None


class LiveOut(BaseModel):
    """The process runs."""

    alive: bool = True


def _gib(size: int) -> float:
    return round(size / _GIB, 2)

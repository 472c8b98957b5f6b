"""Whether this process, the machine and what the service stands on are well."""

from __future__ import annotations

import asyncio
import os
import time
import tomllib
from collections.abc import Awaitable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import psutil

from conclave.db import Database
from conclave.errors import Unavailable
from conclave.health.repository import Counts, HealthRepository
from conclave.health.shapes import Check, Level, Overview, System
from conclave.ports.engine import WorkflowEngine

PROBE_SECONDS = 1.0
MEMORY_WARNING, MEMORY_CRITICAL = 70.0, 90.0
DISK_WARNING, DISK_CRITICAL = 80.0, 90.0
_LEVELS = list(Level)
Answer = TypeVar("Answer")


def product_version() -> str:
    """Return the version: as installed, or as a checkout that is not installed says itself."""
    try:
        return version("conclave")
    except PackageNotFoundError:
        project = Path(__file__).parents[2] / "pyproject.toml"
        return str(tomllib.loads(project.read_text())["project"]["version"])


def level_of(percent: float, warning: float, critical: float) -> Level:
    """Judge a share: over a threshold, not at it."""
    if percent > critical:
        return Level.CRITICAL
    return Level.WARNING if percent > warning else Level.HEALTHY


class HealthService:
    """Every probe of a dependency is bounded to a second, and none of them raises."""

    def __init__(self, db: Database, engine: WorkflowEngine, data_dir: Path) -> None:
        self._db = db
        self._engine = engine
        self._data_dir = data_dir
        self._repository = HealthRepository()
        self._started = time.monotonic()
        self._version = product_version()

    async def overview(self) -> Overview:
        """Answer whatever the state of the dependencies."""
        counts = await self._counts()
        return Overview(
            version=self._version,
            timestamp=datetime.now(UTC),
            uptime_seconds=self._uptime(),
            agents_count=counts and counts.agents,
            circles_count=counts and counts.circles,
            active_tasks=counts and counts.running_turns,
        )

    async def missing_dependency(self) -> str | None:
        """Name a dependency that cannot be reached; None when the service can do its work."""
        database, temporal = await asyncio.gather(
            _bounded(self._ping()), _bounded(self._engine.is_reachable())
        )
        if not database:
            return "database"
        return None if temporal else "temporal"

    async def system(self) -> System:
        """Measure the machine; what blocks does so in a thread."""
        return await asyncio.to_thread(self._measure)

    async def checks(self) -> list[Check]:
        """Look at everything once."""
        counts, temporal, workers, system = await asyncio.gather(
            self._counts(),
            _bounded(self._engine.is_reachable()),
            _bounded(self._engine.live_workers()),
            self.system(),
        )
        now = datetime.now(UTC)
        return [
            Check(
                name="API Server",
                status=Level.HEALTHY,
                message="Responding normally",
                last_check=now,
            ),
            _database_check(counts, now),
            _memory_check(system.memory_percent, now),
            _disk_check(system.disk_percent, now),
            _agents_check(counts, now),
            _circles_check(counts, now),
            _temporal_check(bool(temporal), now),
            _workers_check(workers, now),
        ]

    def _uptime(self) -> float:
        return round(time.monotonic() - self._started, 3)

    async def _ping(self) -> bool:
        async with self._db.transaction() as tx:
            await self._repository.ping(tx)
        return True

    async def _counts(self) -> Counts | None:
        return await _bounded(self._count())

    async def _count(self) -> Counts:
        async with self._db.transaction() as tx:
            return await self._repository.counts(tx)

    def _measure(self) -> System:
        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(str(_existing(self._data_dir)))
        frequency = psutil.cpu_freq()
        return System(
            cpu_percent=psutil.cpu_percent(interval=0.1),
            cpu_count=psutil.cpu_count() or 1,
            cpu_frequency_mhz=frequency.current if frequency else None,
            memory_total=memory.total,
            memory_available=memory.available,
            memory_used=memory.used,
            memory_percent=memory.percent,
            disk_total=disk.total,
            disk_used=disk.used,
            disk_free=disk.free,
            disk_percent=disk.percent,
            load_average=os.getloadavg(),
            uptime_seconds=self._uptime(),
        )


def worst(checks: list[Check]) -> Level:
    """Return the level of the whole: that of its worst part."""
    return max((check.status for check in checks), key=_LEVELS.index)


async def _bounded(probe: Awaitable[Answer]) -> Answer | None:
    try:
        return await asyncio.wait_for(probe, PROBE_SECONDS)
    except (TimeoutError, Unavailable):
        return None


def _existing(path: Path) -> Path:
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())


def _database_check(counts: Counts | None, now: datetime) -> Check:
    up = counts is not None
    return Check(
        name="Database",
        status=Level.HEALTHY if up else Level.CRITICAL,
        message="PostgreSQL connected" if up else "PostgreSQL cannot be reached",
        last_check=now,
    )


def _memory_check(percent: float, now: datetime) -> Check:
    status = level_of(percent, MEMORY_WARNING, MEMORY_CRITICAL)
    words = {Level.HEALTHY: "Normal", Level.WARNING: "High", Level.CRITICAL: "Very high"}
    return Check(
        name="Memory Usage",
        status=status,
        value=f"{percent:.1f}%",
        message=words[status],
        last_check=now,
    )


def _disk_check(percent: float, now: datetime) -> Check:
    status = level_of(percent, DISK_WARNING, DISK_CRITICAL)
    words = {
        Level.HEALTHY: "Sufficient space",
        Level.WARNING: "Space is running out",
        Level.CRITICAL: "Almost full",
    }
    return Check(
        name="Disk Space",
        status=status,
        value=f"{percent:.1f}%",
        message=words[status],
        last_check=now,
    )


def _agents_check(counts: Counts | None, now: datetime) -> Check:
    if counts is None:
        return Check(name="Agents", status=Level.CRITICAL, message="Unknown", last_check=now)
    return Check(
        name="Agents",
        status=Level.HEALTHY,
        value=str(counts.agents),
        message=f"{counts.agents} agent(s) registered",
        last_check=now,
    )


def _circles_check(counts: Counts | None, now: datetime) -> Check:
    if counts is None:
        return Check(name="Circles", status=Level.CRITICAL, message="Unknown", last_check=now)
    return Check(
        name="Circles",
        status=Level.HEALTHY,
        value=f"{counts.active_circles}/{counts.circles}",
        message=f"{counts.active_circles} running, {counts.circles} total",
        last_check=now,
    )


def _temporal_check(reachable: bool, now: datetime) -> Check:
    return Check(
        name="Temporal",
        status=Level.HEALTHY if reachable else Level.CRITICAL,
        message="Temporal connected" if reachable else "Temporal cannot be reached",
        last_check=now,
    )


def _workers_check(workers: int | None, now: datetime) -> Check:
    if not workers:
        return Check(
            name="Workers",
            status=Level.CRITICAL,
            value=None if workers is None else "0",
            message="Unknown" if workers is None else "No worker asks for work",
            last_check=now,
        )
    return Check(
        name="Workers",
        status=Level.HEALTHY,
        value=str(workers),
        message=f"{workers} worker(s) asking for work",
        last_check=now,
    )

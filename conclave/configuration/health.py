"""Whether the parts this service stands on work: each is really tried, all at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from conclave.configuration.repository import SettingRepository
from conclave.configuration.service import ConfigurationService
from conclave.configuration.shapes import Component, Components, ComponentStatus
from conclave.crypto import UndecipherableSecret
from conclave.db import Database
from conclave.errors import Unavailable
from conclave.logging import get_logger
from conclave.ports.engine import WorkflowEngine
from conclave.ports.probes import DependencyProbe, MailProbe

LIMIT_SECONDS = 2.0
_DISABLED = Component(status=ComponentStatus.DISABLED)
_log = get_logger(__name__)


@dataclass(frozen=True)
class KnownProbe:
    """A probe and the type of what it looks at, such as `s3`."""

    type: str
    probe: DependencyProbe


class ComponentHealthService:
    """Every look is bounded, and none raises."""

    def __init__(
        self,
        db: Database,
        engine: WorkflowEngine,
        configuration: ConfigurationService,
        mail: MailProbe,
        probes: Mapping[str, KnownProbe | None],
        *,
        limit_seconds: float = LIMIT_SECONDS,
    ) -> None:
        self._db = db
        self._engine = engine
        self._configuration = configuration
        self._mail = mail
        self._probes = probes
        self._limit = limit_seconds
        self._repository = SettingRepository()

    async def look(self) -> Components:
        """Try database, Temporal, mail and the given probes; a part that is None is not in use."""
        looks = {
            "database": self._look("postgresql", self._database),
            **{name: self._probe(known) for name, known in self._probes.items()},
            "mail": self._mail_server(),
            "temporal": self._look("temporal", self._temporal),
        }
        found = await asyncio.gather(*looks.values())
        parts = dict(zip(looks, found, strict=True))
        return Components(parts=parts, checked_at=datetime.now(UTC))

    async def _database(self) -> None:
        async with self._db.transaction() as tx:
            await self._repository.ping(tx)

    async def _temporal(self) -> None:
        if not await self._engine.is_reachable():
            raise Unavailable("Temporal cannot be reached.")

    async def _probe(self, known: KnownProbe | None) -> Component:
        return _DISABLED if known is None else await self._look(known.type, known.probe.check)

    async def _mail_server(self) -> Component:
        is_used = True

        async def check() -> None:
            nonlocal is_used
            mail = await self._configuration.mail_settings()
            is_used = mail is not None
            if mail is not None:
                await self._mail.check(mail)

        component = await self._look("smtp", check)
        return component if is_used else _DISABLED

    async def _look(self, type_: str, check: Callable[[], Awaitable[None]]) -> Component:
        started = time.perf_counter()
        error = None
        try:
            async with asyncio.timeout(self._limit):
                await check()
        except TimeoutError:
            error = f"No answer within {self._limit:g} seconds."
        except (Unavailable, UndecipherableSecret) as reason:
            error = reason.message
        except Exception as crash:
            # Its text may hold anything, so that only its kind is told, here and in the log.
            _log.warning("component_check_failed", component=type_, kind=type(crash).__name__)
            error = f"The check failed ({type(crash).__name__})."
        return Component(
            status=ComponentStatus.HEALTHY if error is None else ComponentStatus.UNHEALTHY,
            type=type_,
            latency_ms=round((time.perf_counter() - started) * 1000, 1),
            error=error,
        )

"""Two processes on one database, and calls that work or fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from conclave.breakers.service import BreakerService
from conclave.db import Database
from conclave.errors import CircuitOpen, ProviderUnavailable
from conclave.ports.breakers import Permit, Verdict
from tests.harness.circuits import NAME, Site


def is_down(error: Exception) -> Verdict:
    return Verdict.FAILED if isinstance(error, ProviderUnavailable) else Verdict.NONE


async def fails(process: BreakerService, permit: Permit | None = None) -> None:
    permit = permit or await process.admit(NAME, lasts=30)
    with suppress(ProviderUnavailable):
        async with process.watched(permit, is_down):
            raise ProviderUnavailable("it is down")


async def works(process: BreakerService, permit: Permit | None = None) -> None:
    permit = permit or await process.admit(NAME, lasts=30)
    async with process.watched(permit, is_down):
        pass


async def refused(process: BreakerService) -> CircuitOpen:
    with pytest.raises(CircuitOpen) as error:
        await process.admit(NAME, lasts=30)
    return error.value


@pytest.fixture
async def site(clean_database: Database) -> AsyncIterator[Site]:
    made = Site(clean_database)
    yield made
    await made.close()

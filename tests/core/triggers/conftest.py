"""What tests of triggers share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from conclave.db import Database
from tests.harness.triggers import Triggers, running_triggers


@pytest.fixture
async def triggers(clean_database: Database, postgres_url: str) -> AsyncIterator[Triggers]:
    async with running_triggers(postgres_url) as triggers:
        yield triggers

"""Pipelines over a real database; a test makes the calls that a workflow would make."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from conclave.container import build_core
from conclave.db import Database
from conclave.settings import Settings
from schema.domain.pipelines import Run
from schema.payloads.pipelines import (
    LookAtRun,
    RunNews,
    StartSteps,
    StepAttempt,
    WatchedStep,
)
from tests.fakes.engine import FakeEngine
from tests.fakes.notifier import FakeNotifier
from tests.fakes.task_desk import FakeTaskDesk
from tests.harness.pipelines import Bench, with_fakes
from tests.waiting import until


@dataclass
class Hand(Bench):
    """Makes the calls of a workflow."""

    notifier: FakeNotifier
    tasks: FakeTaskDesk

    async def begin(self, run: Run) -> None:
        """Begin a run."""
        await self.pipelines.record.begin(run.id)

    async def go(self, run: Run, *names: str, attempt: int = 1) -> RunNews:
        """Start steps."""
        steps = await self.steps(run)
        start = [StepAttempt(step_id=steps[name].step_id, attempt=attempt) for name in names]
        return await self.pipelines.record.start(StartSteps(run_id=run.id, start=start))

    async def look(
        self, run: Run, *names: str, attempt: int = 1, over: bool = False, late: bool = False
    ) -> RunNews:
        """Look at steps."""
        steps = await self.steps(run)
        watched = [
            WatchedStep(step_id=steps[name].step_id, attempt=attempt, is_over=over, is_late=late)
            for name in names
        ]
        return await self.pipelines.record.look(LookAtRun(run_id=run.id, steps=watched))


@pytest.fixture
async def hand(clean_database: Database, postgres_url: str) -> AsyncIterator[Hand]:
    engine = FakeEngine()
    core = await build_core(
        Settings(database_url=postgres_url, encryption_key=None), engine=engine, environment={}
    )
    tasks, notifier = with_fakes(core, engine)
    tasks.dispatch = None
    yield Hand(core, core.pipelines, notifier=notifier, tasks=tasks)
    await until(lambda: core.errands.is_idle, what="the errands")
    await core.close()

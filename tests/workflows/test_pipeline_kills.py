"""Workers killed in the middle of a run: it goes on, and each step runs once."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from schema.domain.pipelines import RunStatus
from tests.conftest import Apart
from tests.harness.pipelines import Mill, barrier, notify, running_mill, task, wait
from tests.waiting import until

KILLS = 2


@pytest.fixture
async def mill(apart: Apart) -> AsyncIterator[Mill]:
    async with running_mill(apart.postgres_url, apart.temporal_address) as mill:
        yield mill


@asynccontextmanager
async def worker(mill: Mill, log: Path) -> AsyncGenerator[Process]:
    assert mill.settings.encryption_key is not None
    environment = os.environ | {
        "DATABASE_URL": mill.settings.database_url,
        "TEMPORAL_ADDRESS": mill.settings.temporal_address,
        "ENCRYPTION_KEY": mill.settings.encryption_key.get_secret_value(),
    }
    with log.open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.harness.pipeline_worker", env=environment,
            stdout=sink, stderr=sink,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_killed_again_and_again_a_run_ends_and_each_step_runs_once(
    mill: Mill, tmp_path: Path
):
    layers = [[f"s{layer}_{n}" for n in range(6)] for layer in range(KILLS + 1)]
    specs = {
        name: (task if n % 3 else barrier)(
            *(layers[depth - 1] if depth else []), **({} if n % 3 else {"tasks": [{}, {}]})
        )
        for depth, layer in enumerate(layers)
        for n, name in enumerate(layer)
    }
    run = await mill.run(
        {"max_parallel": 4}, **specs, rest=wait(1, layers[0][0]), tell=notify("rest")
    )
    log = tmp_path / "worker.log"

    async def ended() -> int:
        return list((await mill.statuses(run)).values()).count("completed")

    async def has_ended(least: int) -> bool:
        return await ended() >= least

    async with mill.agents(lambda one: {}):
        for number in range(KILLS):
            async with worker(mill, log) as process:
                enough = partial(has_ended, await ended() + 3)
                await until(enough, timeout=60, what=f"kill {number}")
                process.kill()
        async with worker(mill, log):
            await mill.reaches(run, RunStatus.COMPLETED, timeout=60)
    steps = await mill.steps(run)
    assert {step.status.value for step in steps.values()} == {"completed"}
    assert {step.attempt for step in steps.values()} == {1}
    made = await mill.all_tasks(run)
    expected = sum(1 if n % 3 else 2 for layer in layers for n in range(len(layer)))
    assert len(made) == expected
    assert sorted(one.id for one in made) == sorted(
        task_id for step in steps.values() for task_id in step.task_ids
    )
    assert [one["type"] for one in await mill.told(run)] == [
        "workflow.started",
        "workflow.completed",
    ]


async def test_a_run_waits_while_no_worker_is_there(mill: Mill, tmp_path: Path):
    run = await mill.run(rest=wait(2), a=task())
    async with worker(mill, tmp_path / "worker.log"):
        await mill.reaches(run, RunStatus.RUNNING)
    cancelled = await mill.run(a=task())
    await mill.cancel(cancelled)
    async with mill.worker(), mill.agents(lambda one: {}):
        await mill.reaches(run, RunStatus.COMPLETED)
    assert len(await mill.all_tasks(run)) == 1
    assert await mill.all_tasks(cancelled) == []

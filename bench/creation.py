"""Creating conversations against starting raw workflows, with no worker to serve either."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from temporalio.service import RPCError

from bench.product import Bench
from bench.raw import QUEUE
from bench.turns import RUNS, Arms, many

_CREATED = 150
_AT_ONCE = 16

Make = Callable[[int], Awaitable[object]]


async def creation(bench: Bench) -> tuple[Arms, Arms]:
    """Return conversations a second against workflow starts a second: those that run by
    themselves (counted when their workflow is started), and those that are a row."""
    agent = await bench.post(
        "/agents", {"name": "creator", "provider": "openai", "model": "gpt-4o-mini"}
    )
    running, waiting = Arms([], []), Arms([], [])
    async with _workers_stopped(bench):
        for _ in range(RUNS):
            raw = await _rate(_raw_start(bench))
            for arms, auto_run in ((running, True), (waiting, False)):
                arms.raw.append(raw)
                arms.ours.append(await _created(bench, agent["id"], auto_run=auto_run))
    return running, waiting


def _raw_start(bench: Bench) -> Make:
    tag = uuid.uuid4().hex

    async def start(n: int) -> object:
        return await bench.client.start_workflow(
            "BenchRaw", id=f"start-{tag}-{n}", task_queue=QUEUE
        )

    return start


async def _created(bench: Bench, agent_id: object, *, auto_run: bool) -> float:
    made: list[str] = []

    async def make(n: int) -> object:
        answer = await bench.post(
            "/conversations",
            {"topic": f"number {n}", "agent_ids": [agent_id], "auto_run": auto_run},
        )
        made.append(str(answer["workflow_id"]))
        return answer

    rate = await _rate(make)
    if auto_run:
        await _all_started(bench, made)
    return rate


async def _all_started(bench: Bench, workflow_ids: list[str]) -> None:
    """The answer comes after the start; a run that is not there would make the figure a lie."""
    for workflow_id in workflow_ids:
        try:
            await bench.client.get_workflow_handle(workflow_id).describe()
        except RPCError as error:
            raise RuntimeError(f"{workflow_id} was not started") from error


async def _rate(make: Make) -> float:
    begun = time.perf_counter()
    await many(make, range(_CREATED), at_once=_AT_ONCE)
    return _CREATED / (time.perf_counter() - begun)


@asynccontextmanager
async def _workers_stopped(bench: Bench) -> AsyncGenerator[None]:
    """Freeze the workers: killed ones would be restarted."""
    stopped = [pid for name, pid in bench.pids().items() if name.startswith("worker")]
    stopped.append(bench.raw_worker)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)

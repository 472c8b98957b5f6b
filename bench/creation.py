"""Creating conversations against starting raw workflows, with no worker to serve either.

Both are called in this process: the service that every dialect's route calls, and the client's
`start_workflow`. What HTTP adds is shown beside it.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from temporalio.service import RPCError

from bench.product import Bench
from bench.raw import QUEUE
from bench.turns import RUNS, Arms, many
from conclave.container import Core, build_core
from conclave.conversations.commands import CreateConversation
from schema.domain.identity import LOCAL_PRINCIPAL
from workflows.engine import TemporalEngine

_STARTED = 150
_STORED = 600
_AT_ONCE = 16

Make = Callable[[int], Awaitable[object]]


async def creation(bench: Bench) -> tuple[Arms, Arms, float]:
    """Return conversations a second against workflow starts a second: those that run by
    themselves (row, outbox and start), and those that are a row; and the latter over HTTP."""
    agent = await bench.post(
        "/agents", {"name": "creator", "provider": "openai", "model": "gpt-4o-mini"}
    )
    agent_id = agent["id"]
    assert isinstance(agent_id, int)
    running, waiting, over_http = Arms([], []), Arms([], []), list[float]()
    core = await build_core(bench.settings, engine=TemporalEngine(bench.client), name="bench")
    try:
        async with _workers_stopped(bench):
            for _ in range(RUNS):
                raw = await _rate(_raw_start(bench), _STARTED)
                running.raw.append(raw)
                waiting.raw.append(raw)
                running.ours.append(await _started(bench, core, agent_id))
                make = _create(core, agent_id, auto_run=False)
                waiting.ours.append(await _rate(make, _STORED))
                over_http.append(await _rate(_post(bench, agent_id), _STORED))
    finally:
        await core.close()
    return running, waiting, statistics.median(over_http)


def _raw_start(bench: Bench) -> Make:
    tag = uuid.uuid4().hex

    async def start(n: int) -> object:
        return await bench.client.start_workflow(
            "BenchRaw", id=f"start-{tag}-{n}", task_queue=QUEUE
        )

    return start


def _create(core: Core, agent_id: int, *, auto_run: bool, made: list[str] | None = None) -> Make:
    async def create(n: int) -> object:
        command = CreateConversation(topic=f"number {n}", agent_ids=[agent_id], auto_run=auto_run)
        conversation = await core.conversations.create(command, LOCAL_PRINCIPAL)
        if made is not None:
            made.append(conversation.workflow_id)
        return conversation

    return create


def _post(bench: Bench, agent_id: int) -> Make:
    async def post(n: int) -> object:
        return await bench.post(
            "/conversations", {"topic": f"n {n}", "agent_ids": [agent_id], "auto_run": False}
        )

    return post


async def _started(bench: Bench, core: Core, agent_id: int) -> float:
    made: list[str] = []
    rate = await _rate(_create(core, agent_id, auto_run=True, made=made), _STARTED)
    await _all_started(bench, made)
    return rate


async def _all_started(bench: Bench, workflow_ids: list[str]) -> None:
    """`create` returns after the start; a run that is not there would make the figure a lie."""
    for workflow_id in workflow_ids:
        try:
            await bench.client.get_workflow_handle(workflow_id).describe()
        except RPCError as error:
            raise RuntimeError(f"{workflow_id} was not started") from error


async def _rate(make: Make, count: int) -> float:
    begun = time.perf_counter()
    await many(make, range(count), at_once=_AT_ONCE)
    return count / (time.perf_counter() - begun)


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

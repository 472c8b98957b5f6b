"""The worker process: asks Temporal for work and relays what the outbox owes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from temporalio.client import Client
from temporalio.worker import FixedSizeSlotSupplier, Worker, WorkerTuner

from conclave.container import build_core, temporal_client
from conclave.logging import get_logger
from conclave.pauses import leave_alone_what_is_loaded
from conclave.settings import Settings
from schema.payloads import names
from worker.interceptors import LogContextInterceptor, TakeUpInterceptor
from worker.parts import WorkerParts, build_worker_parts
from worker.registry import WORKFLOWS, activities_of, tool_activities_of
from worker.sandbox import keep_workflow_files, sandboxed_runner
from worker.slots import POLLS, ActivitySlots
from workflows import policies, schedules
from workflows.engine import TemporalEngine

_CONNECT_PAUSE_SECONDS = 0.5
_SCHEDULE_PAUSE_SECONDS = 5.0
_GRACEFUL_SECONDS = 5.0
_WORKFLOW_TASKS = 20
"""At once. They share one interpreter with the loop that sends heartbeats: more of them do not
get more done, and make heartbeats late."""
_log = get_logger(__name__)


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, then let running activities end for a moment.

    Activities that do not end in time are cut: Temporal gives them to another worker.
    """
    client = await _connected(settings)
    core = await build_core(settings, engine=TemporalEngine(client), name="worker")
    try:
        await core.application.apply_log_level()
        parts = build_worker_parts(core)
        await asyncio.to_thread(parts.load)
        await asyncio.to_thread(keep_workflow_files)
        leave_alone_what_is_loaded()
        await _work(settings, client, parts)
    finally:
        await core.close()


async def _work(settings: Settings, client: Client, parts: WorkerParts) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    worker = build_worker(settings, client, parts)
    async with worker, asyncio.TaskGroup() as tasks:
        relay = tasks.create_task(parts.relay.run())
        consumer = tasks.create_task(parts.consumer.run())
        keeping = tasks.create_task(keep_schedules(client, parts))
        _say_ready()
        _log.info("worker is ready", task_queue=names.CONCLAVE_QUEUE)
        await stop.wait()
        relay.cancel()
        consumer.cancel()
        keeping.cancel()
    _log.info("worker has drained")


@asynccontextmanager
async def build_worker(
    settings: Settings, client: Client, parts: WorkerParts
) -> AsyncGenerator[None]:
    """Work until the block ends: one worker of the main queue, one of the queue for tools.

    Workflows and model calls share the main one, so that the server can hand a model call over
    together with the workflow task that asked for it; so do quick tools. The other tools have slots
    of their own: what they wait for must not keep models waiting.
    """
    slots = ActivitySlots(settings.worker_max_activities)
    main = Worker(
        client,
        task_queue=names.CONCLAVE_QUEUE,
        workflows=WORKFLOWS,
        activities=activities_of(parts),
        workflow_runner=sandboxed_runner(),
        interceptors=[LogContextInterceptor(), TakeUpInterceptor(slots)],
        max_cached_workflows=settings.worker_max_cached_workflows,
        max_concurrent_activity_task_polls=POLLS,
        tuner=WorkerTuner.create_composite(
            workflow_supplier=FixedSizeSlotSupplier(_WORKFLOW_TASKS),
            activity_supplier=slots,
            local_activity_supplier=FixedSizeSlotSupplier(1),
            nexus_supplier=FixedSizeSlotSupplier(1),
        ),
        sticky_queue_schedule_to_start_timeout=policies.STICKY_TIMEOUT,
        graceful_shutdown_timeout=timedelta(seconds=_GRACEFUL_SECONDS),
    )
    tools = Worker(
        client,
        task_queue=names.TOOLS_QUEUE,
        activities=tool_activities_of(parts),
        interceptors=[LogContextInterceptor()],
        max_concurrent_activities=settings.worker_max_tools,
        graceful_shutdown_timeout=timedelta(seconds=_GRACEFUL_SECONDS),
    )
    async with main, tools:
        yield


async def keep_schedules(client: Client, parts: WorkerParts) -> None:
    """Bring the schedules of upkeep to what this build wants, as soon as the server lets us."""
    waiting = schedules.schedules_for(parts.upkeep.available)
    while waiting:
        try:
            await schedules.keep(client, waiting[0])
            del waiting[0]
        except Exception as error:  # whatever it is, a worker works without schedules too
            _log.warning("schedule cannot be kept yet", id=waiting[0].id, error=str(error)[:200])
            await asyncio.sleep(_SCHEDULE_PAUSE_SECONDS)


async def _connected(settings: Settings) -> Client:
    """Connect, waiting for a server that is still starting."""
    while True:
        try:
            return await temporal_client(settings)
        except RuntimeError as error:
            _log.warning("temporal cannot be reached yet", error=str(error)[:200])
            await asyncio.sleep(_CONNECT_PAUSE_SECONDS)


def _say_ready() -> None:
    """Tell the supervisor, which waits for the file it named."""
    path = os.environ.get("CONCLAVE_READY_FILE")
    if path:
        Path(path).write_text(str(os.getpid()))

"""A worker in a process of its own, for tests that kill it in mid-firing.

`python -m tests.harness.trigger_worker` reads its settings from the environment, as every worker
does; its guard lets the fake receiver pass.
"""

from __future__ import annotations

import asyncio

from conclave.container import build_core, temporal_client
from conclave.logging import configure_logging
from conclave.settings import get_settings
from tests.fakes.git_server import LoopbackGuard
from worker.main import build_worker
from worker.parts import build_worker_parts
from workflows.engine import TemporalEngine


async def run() -> None:
    """Work until killed."""
    settings = get_settings()
    configure_logging("WARNING", settings.log_format)
    client = await temporal_client(settings)
    core = await build_core(
        settings,
        engine=TemporalEngine(client),
        name="killed worker",
        environment={},
        guard=LoopbackGuard(),
    )
    async with build_worker(settings, client, build_worker_parts(core)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run())

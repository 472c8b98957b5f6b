"""A worker in a process of its own, for tests that kill it in the middle of pipelines.

`python -m tests.harness.pipeline_worker` reads its settings from the environment, as every worker
does; its tasks are ended by the test, in another process.
"""

from __future__ import annotations

import asyncio

from conclave.container import build_core, temporal_client
from conclave.logging import configure_logging
from conclave.settings import get_settings
from tests.harness.pipelines import with_fakes
from worker.main import build_worker
from worker.parts import build_worker_parts
from workflows.engine import TemporalEngine


async def run() -> None:
    """Work until killed."""
    settings = get_settings()
    configure_logging("WARNING", settings.log_format)
    client = await temporal_client(settings)
    engine = TemporalEngine(client)
    core = await build_core(settings, engine=engine, name="killed worker", environment={})
    with_fakes(core, engine)
    parts = build_worker_parts(core)
    async with build_worker(settings, client, parts):
        await parts.relay.run()


if __name__ == "__main__":
    asyncio.run(run())

"""The children of `conclave up`: what each is, and how it shows that it is ready."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from conclave.runtime import probes
from conclave.runtime.child import ChildSpec
from conclave.runtime.plan import Layout, Ports, own_command
from conclave.runtime.postgres import Postgres
from conclave.runtime.temporal import TemporalServer, is_serving

POSTGRES = "postgres"
TEMPORAL = "temporal"
API = "api"


@dataclass(frozen=True)
class Stack:
    """Describes each child, given where everything lies."""

    layout: Layout
    ports: Ports
    postgres: Postgres
    environment: Mapping[str, str]

    def postgres_spec(self) -> ChildSpec:
        """PostgreSQL: what outlived a killed one is cleared before each start."""

        async def prepare() -> None:
            await asyncio.to_thread(self.postgres.clear_leftovers)

        async def is_ready(_: int) -> bool:
            return await probes.database_exists(self.postgres)

        return ChildSpec(
            name=POSTGRES,
            title="PostgreSQL",
            command=self.postgres.command(),
            environment=dict(os.environ),
            log=self.layout.log(POSTGRES),
            prepare=prepare,
            is_ready=is_ready,
            stop_signal=signal.SIGINT,  # fast shutdown: open transactions are rolled back
            stop_seconds=30,
            death_signal=signal.SIGQUIT,  # so that the postmaster takes its backends with it
            account=self.postgres.account,
        )

    def temporal_spec(self) -> ChildSpec:
        """Temporal's dev server with its UI."""
        server = TemporalServer(
            port=self.ports.temporal,
            ui_port=self.ports.ui,
            database=self.layout.temporal_database,
            codec_endpoint=f"http://127.0.0.1:{self.ports.api}/codec",
        )

        async def is_ready(_: int) -> bool:
            return await is_serving(server.address, "default")

        return ChildSpec(
            name=TEMPORAL,
            title="Temporal",
            command=server.command(),
            environment=dict(os.environ),
            log=self.layout.log(TEMPORAL),
            is_ready=is_ready,
        )

    def worker_spec(self, name: str) -> ChildSpec:
        """A worker: it writes its pid to a file once it polls."""
        mark = self.layout.worker_ready(name)

        async def prepare() -> None:
            mark.unlink(missing_ok=True)

        async def is_ready(pid: int) -> bool:
            return probes.names_pid(mark, pid)

        return ChildSpec(
            name=name,
            title=name.replace("worker-", "Worker "),
            command=own_command("worker"),
            environment={**self.environment, "CONCLAVE_READY_FILE": str(mark)},
            log=self.layout.log(name),
            prepare=prepare,
            is_ready=is_ready,
            stop_seconds=30,
        )

    def api_spec(self) -> ChildSpec:
        """The API: ready when it says so itself."""

        async def is_ready(_: int) -> bool:
            return await probes.http_says_ok(self.ports.api, "/health/ready")

        return ChildSpec(
            name=API,
            title="API",
            command=own_command("api"),
            environment=self.environment,
            log=self.layout.log(API),
            is_ready=is_ready,
        )

"""Real servers for tests, started as the embedded runtime starts them, dying with pytest."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg

from conclave.runtime.launch import bound_to_us
from conclave.runtime.postgres import Postgres
from conclave.runtime.temporal import TemporalServer, is_serving, register_search_attributes
from tests.waiting import until

_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running_postgres(home: Path) -> AsyncGenerator[Postgres]:
    """Run a PostgreSQL that keeps nothing safe from a power cut."""
    postgres = Postgres.at(home)
    await asyncio.to_thread(postgres.prepare, durable=False)
    command = bound_to_us(
        postgres.command(_FAST), death_signal=signal.SIGQUIT, account=postgres.account
    )
    process = _start(command, home.parent / "postgres.log")
    try:
        await until(lambda: _accepts(postgres), timeout=30, what="PostgreSQL")
        yield postgres
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as sink:
        return subprocess.Popen(command, stdout=sink, stderr=sink, start_new_session=True, cwd="/")


def _accepts(postgres: Postgres) -> bool:
    try:
        postgres.create_database()
    except psycopg.OperationalError:
        return False
    return True


@asynccontextmanager
async def running_temporal(
    directory: Path, *, metrics_port: int | None = None
) -> AsyncGenerator[TemporalServer]:
    """Run a Temporal dev server with the product's flags and search attributes."""
    server = TemporalServer(port=free_port(), ui_port=None, database=directory / "temporal.db")
    metrics = [] if metrics_port is None else ["--metrics-port", str(metrics_port)]
    command = bound_to_us([*server.command(), *metrics], death_signal=signal.SIGKILL)
    process = _start(command, directory / "temporal.log")
    try:
        await until(
            lambda: is_serving(server.address, "default"), timeout=30, what="the Temporal server"
        )
        await register_search_attributes(server.address, "default")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

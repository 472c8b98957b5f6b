"""What every test may ask for: a real PostgreSQL, a real Temporal server, an empty database."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from sqlalchemy import text

from conclave.db import Database
from conclave.logging import configure_logging
from conclave.runtime import migrations
from conclave.runtime.postgres import Postgres
from conclave.settings import LogFormat, Settings
from schema.tables.base import Base
from tests.fakes.model_server import echo
from tests.harness.accounts import accounts, accounts_core
from tests.harness.servers import running_postgres, running_temporal
from tests.harness.stack import Stack, running_stack

__all__ = ["accounts", "accounts_core"]  # fixtures of theirs, for all tests

configure_logging("WARNING", LogFormat.JSON)
# A cached logger keeps the pipeline of the test that used it first, and `capture_logs` misses it.
structlog.configure(cache_logger_on_first_use=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failure: what was not run proves nothing."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"Skipped in CI: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def server_directory() -> Generator[Path]:
    """A directory that PostgreSQL's user can reach, with a short path for its socket."""
    with tempfile.TemporaryDirectory(prefix="conclave-tests-") as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@pytest.fixture(scope="session")
async def postgres(server_directory: Path) -> AsyncIterator[Postgres]:
    """One embedded PostgreSQL for the session (under xdist: for the worker)."""
    async with running_postgres(server_directory / "postgres") as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> str:
    """The URL of the session's migrated database, as DATABASE_URL would have it."""
    url = postgres.url()
    migrations.upgrade(url)
    return url


@pytest.fixture(scope="session")
async def database(postgres_url: str) -> AsyncIterator[Database]:
    """The session's migrated database."""
    url = Settings(database_url=postgres_url).sqlalchemy_url
    database = Database.connect(url, pool_size=20)
    yield database
    await database.close()


@pytest.fixture
async def clean_database(database: Database) -> Database:
    """The session's database with every table empty and every id starting at 1 again."""
    names = ", ".join(f'"{table.name}"' for table in Base.metadata.sorted_tables)
    async with database.transaction() as tx:
        # The audit log is append-only for everybody but a test.
        await tx.conn.execute(text("SET LOCAL session_replication_role = replica"))
        await tx.conn.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
    return database


@pytest.fixture(scope="session")
async def temporal_address(server_directory: Path) -> AsyncIterator[str]:
    """The address of the session's Temporal dev server, namespace `default`."""
    async with running_temporal(server_directory) as server:
        yield server.address


@dataclass(frozen=True)
class Apart:
    """Where a module's own product runs."""

    postgres_url: str
    temporal_address: str


@pytest.fixture(scope="module")
async def apart(postgres: Postgres) -> AsyncIterator[Apart]:
    """A database and a Temporal server of the module's own.

    Two workers of one queue take each other's work, and two relays of one outbox deliver to two
    servers: a product with other tools than the session's cannot stand beside it.
    """
    name = f"apart_{uuid.uuid4().hex[:12]}"
    postgres.create_database(name)
    url = postgres.url(name)
    migrations.upgrade(url)
    with tempfile.TemporaryDirectory(prefix="conclave-apart-") as directory:
        async with running_temporal(Path(directory)) as server:
            yield Apart(url, server.address)


@pytest.fixture(scope="session")
async def running(postgres_url: str, temporal_address: str) -> AsyncIterator[Stack]:
    """The session's product: core, worker, scripted model."""
    async with running_stack(postgres_url, temporal_address) as stack:
        yield stack


@pytest.fixture
async def stack(running: Stack) -> Stack:
    """The session's product with a model that echoes. Conversations of earlier tests stay."""
    running.model.reset()
    running.model.responder = echo
    await running.close_circuits()
    return running

"""The product with git remotes of a test's own, in a data directory that goes away."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from temporalio.client import Client

from conclave.container import Core, build_core, temporal_client
from conclave.crypto import new_key
from conclave.settings import Settings
from conclave.workspaces.commands import CreateProject
from schema.domain.projects import CheckoutStatus, Project
from tests.fakes.git_server import GitServer, LoopbackGuard, Origin
from tests.waiting import until
from worker.main import build_worker
from worker.parts import WorkerParts, build_worker_parts
from workflows.engine import TemporalEngine


@dataclass
class Yard:
    """What a test of checkouts works with."""

    settings: Settings
    core: Core
    client: Client
    parts: WorkerParts
    origin: Origin
    server: GitServer

    @property
    def places(self) -> Path:
        """Where workspaces lie."""
        return self.settings.conclave_data_dir / "workspaces"

    def worker(self) -> AbstractAsyncContextManager[None]:
        """Make a worker, which is not running yet."""
        return build_worker(self.settings, self.client, self.parts)

    async def project(self, **fields: object) -> Project:
        """Make a project."""
        values = {"name": "Shop", **fields}
        return await self.core.projects.create(CreateProject.model_validate(values))

    async def reaches(self, project: Project, status: CheckoutStatus) -> Project:
        """Wait until a project's checkout has a status."""

        async def arrived() -> Project | None:
            found = await self.core.projects.get(project.id)
            return found if found.checkout_status is status else None

        found = await until(arrived, timeout=40, what=f"checkout {status}")
        assert found is not None
        return found

    def left(self) -> list[str]:
        """Return what lies in the place of workspaces besides locks and what was deleted."""
        names = [path.name for path in self.places.iterdir()] if self.places.exists() else []
        return sorted(name for name in names if name not in {".deleted", ".locks"})


@asynccontextmanager
async def running_yard(
    postgres_url: str, temporal_address: str, directory: Path, *, encryption_key: str | None = None
) -> AsyncGenerator[Yard]:
    """Build core, parts and remote; the worker is started by the test."""
    origin = Origin(directory / "remote", branch="trunk")
    origin.commit({"a": "one\n", "dir/b": "two\n"}, "First")
    with GitServer(origin.bare.parent) as server:
        settings = Settings.model_validate(
            {
                "database_url": postgres_url,
                "temporal_address": temporal_address,
                "encryption_key": encryption_key or new_key(),
                "conclave_data_dir": directory / "data",
            }
        )
        client = await temporal_client(settings)
        core = await build_core(
            settings,
            engine=TemporalEngine(client),
            name="checkouts",
            environment={},
            guard=LoopbackGuard(),
            git_protocols=("http", "https"),
        )
        try:
            yield Yard(settings, core, client, build_worker_parts(core), origin, server)
        finally:
            await until(lambda: core.errands.is_idle, what="the errands")
            await core.close()

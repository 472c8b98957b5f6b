"""The product with tasks that a test ends by hand, and pipelines that wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import select
from temporalio.client import Client, WorkflowHandle

from conclave.auditing import AuditLog
from conclave.container import Core, build_core, temporal_client
from conclave.crypto import new_key
from conclave.mailbox import Mailbox
from conclave.pipelines.assembly import Pipelines, build_pipelines
from conclave.pipelines.commands import AddStep, CreatePipeline
from conclave.ports.engine import WorkflowEngine
from conclave.settings import Settings
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.pipelines import Run, RunStatus, StepRun, StepStatus, StepType
from schema.domain.tasks import Task
from schema.payloads import names
from schema.tables.events import EventRow
from tests.fakes.notifier import FakeNotifier
from tests.fakes.task_desk import FakeTaskDesk
from tests.waiting import until
from worker.main import build_worker
from worker.parts import WorkerParts, build_worker_parts
from workflows.engine import TemporalEngine


class Spec(NamedTuple):
    """A step to be made."""

    step_type: StepType
    config: dict[str, Any]
    after: tuple[str, ...] = ()


def task(*after: str, **config: Any) -> Spec:
    return Spec(StepType.TASK, config, after)


def wait(seconds: int, *after: str, **config: Any) -> Spec:
    return Spec(StepType.WAIT, {"wait_seconds": seconds, **config}, after)


def barrier(*after: str, **config: Any) -> Spec:
    return Spec(StepType.PARALLEL, config, after)


def notify(*after: str, **config: Any) -> Spec:
    return Spec(StepType.NOTIFY, config, after)


def when(field: str, operator: str, value: Any = None) -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


@dataclass
class Defined:
    """A pipeline and its steps by name."""

    id: int
    steps: dict[str, int] = field(default_factory=dict[str, int])


@dataclass
class Bench:
    """Makes pipelines and runs, and reads them."""

    core: Core
    pipelines: Pipelines

    async def define(self, config: dict[str, Any] | None = None, **specs: Spec) -> Defined:
        """Make a pipeline of steps, in their order."""
        service = self.pipelines.service
        made = await service.create(
            CreatePipeline(name="Release", config=config or {}), LOCAL_PRINCIPAL
        )
        defined = Defined(made.id)
        for name, spec in specs.items():
            step = await service.add_step(
                made.id,
                AddStep(
                    name=name,
                    step_type=spec.step_type,
                    config=_numbered(spec.config, defined.steps),
                    depends_on=[defined.steps[other] for other in spec.after],
                ),
            )
            defined.steps[name] = step.id
        return defined

    async def start(self, defined: Defined, **given: Any) -> Run:
        """Start a run."""
        run, _ = await self.pipelines.runs.run(defined.id, given, LOCAL_PRINCIPAL)
        return run

    async def run(self, config: dict[str, Any] | None = None, **specs: Spec) -> Run:
        """Define and start."""
        return await self.start(await self.define(config, **specs))

    async def get(self, run: Run) -> Run:
        """Read a run again."""
        return (await self.pipelines.runs.get(run.pipeline_id, run.id))[0]

    async def steps(self, run: Run) -> dict[str, StepRun]:
        """Return a run's steps by name."""
        _, steps = await self.pipelines.runs.get(run.pipeline_id, run.id)
        return {step.name: step for step in steps}

    async def statuses(self, run: Run) -> dict[str, str]:
        """Return how a run's steps stand, by name."""
        return {name: step.status.value for name, step in (await self.steps(run)).items()}

    async def cancel(self, run: Run) -> None:
        """Cancel a run."""
        await self.pipelines.runs.cancel(run.pipeline_id, run.id)

    async def told(self, run: Run) -> list[dict[str, Any]]:
        """Return the events of a run in order, each with its type."""
        async with self.core.db.transaction() as tx:
            rows = await tx.conn.execute(
                select(EventRow.type, EventRow.data)
                .where(EventRow.stream == f"workflow-{run.pipeline_id}")
                .order_by(EventRow.seq)
            )
            return [{"type": row.type, **row.data} for row in rows if row.data["run_id"] == run.id]


@dataclass
class Mill(Bench):
    """The same on a real Temporal, with tasks that somebody ends."""

    settings: Settings
    client: Client
    tasks: FakeTaskDesk
    notifier: FakeNotifier
    parts: WorkerParts

    def worker(self) -> AbstractAsyncContextManager[None]:
        """Make a worker, which is not running yet."""
        return build_worker(self.settings, self.client, self.parts)

    async def reaches(self, run: Run, status: RunStatus, *, timeout: float = 30) -> Run:
        """Wait until a run has a status."""

        async def arrived() -> Run | None:
            found = await self.get(run)
            return found if found.status is status else None

        found = await until(arrived, timeout=timeout, what=f"run {status}")
        assert found is not None
        return found

    async def step_reaches(
        self, run: Run, name: str, status: StepStatus, *, attempt: int | None = None
    ) -> StepRun:
        """Wait until a step has a status."""

        async def arrived() -> StepRun | None:
            step = (await self.steps(run))[name]
            fits = step.status is status and attempt in (None, step.attempt)
            return step if fits else None

        found = await until(arrived, timeout=30, what=f"step {name} {status}")
        assert found is not None
        return found

    async def task_of(self, run: Run, name: str, *, attempt: int = 1) -> int:
        """Wait for the task of a step's attempt and return its id."""
        step = await self.step_reaches(run, name, StepStatus.RUNNING, attempt=attempt)
        return step.task_ids[0]

    async def all_tasks(self, run: Run) -> list[Task]:
        """Return every task a run has made."""
        everything = await self.tasks.all(self.core.db)
        return [one for one in everything if one.workflow_run_id == run.id]

    def handle(self, run: Run) -> WorkflowHandle[Any, Any]:
        """Return the run's workflow."""
        return self.client.get_workflow_handle(names.pipeline_workflow_id(run.id))

    @asynccontextmanager
    async def agents(self, done: Callable[[Task], dict[str, Any]]) -> AsyncGenerator[None]:
        """Let somebody end every task that comes, as `done` says."""

        async def work() -> None:
            while True:
                for one in await self.tasks.open(self.core.db):
                    await self.tasks.end(self.core.db, one.id, **done(one))
                await asyncio.sleep(0.02)

        working = asyncio.create_task(work())
        try:
            yield
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working


def _numbered(config: Any, steps: dict[str, int]) -> Any:
    """Put ids where a config says `steps.<name>.`."""
    if isinstance(config, dict):
        return {key: _numbered(value, steps) for key, value in config.items()}
    if isinstance(config, list):
        return [_numbered(value, steps) for value in config]
    if isinstance(config, str):
        for name, step_id in steps.items():
            config = config.replace(f"steps.{name}.", f"steps.{step_id}.")
    return config


def with_fakes(core: Core, engine: WorkflowEngine) -> tuple[FakeTaskDesk, FakeNotifier]:
    """Give a core pipelines that make the fake's tasks."""
    mailbox, notifier = Mailbox(), FakeNotifier()
    tasks = FakeTaskDesk(mailbox, core.errands)
    core.pipelines = build_pipelines(
        core.db,
        core.events,
        AuditLog(),
        mailbox,
        core.errands,
        engine,
        tasks=tasks,
        notifier=notifier,
    )
    tasks.dispatch = core.pipelines.dispatch
    return tasks, notifier


@asynccontextmanager
async def running_mill(
    postgres_url: str, temporal_address: str, *, encryption_key: str | None = None
) -> AsyncGenerator[Mill]:
    """Build core and parts; the worker is started by the test."""
    settings = Settings.model_validate(
        {
            "database_url": postgres_url,
            "temporal_address": temporal_address,
            "encryption_key": encryption_key or new_key(),
        }
    )
    client = await temporal_client(settings)
    engine = TemporalEngine(client)
    core = await build_core(settings, engine=engine, name="pipelines", environment={})
    tasks, notifier = with_fakes(core, engine)
    try:
        parts = build_worker_parts(core)
        yield Mill(core, core.pipelines, settings, client, tasks, notifier, parts)
    finally:
        await until(lambda: core.errands.is_idle, what="the errands")
        await core.close()

"""Checkouts on a real Temporal: whole or not at all, once, whatever is killed or cancelled."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, text
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHistory
from temporalio.service import RPCError
from temporalio.worker import Worker

from conclave.conversations.commands import CreateChat
from conclave.db import Database
from conclave.settings import Settings
from conclave.workspaces.checkout import CheckoutService
from conclave.workspaces.commands import UpdateProject
from conclave.workspaces.errors import CheckoutGivenUp, CheckoutNotReady, ProjectNotFound
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.projects import CheckoutStatus, Project
from schema.domain.workspaces import scratch_name
from schema.payloads import names
from schema.payloads.checkout import CheckoutInput, CheckoutOutcome, CheckoutSettleInput
from schema.payloads.upkeep import ChoreName
from schema.tables.events import EventRow
from tests.conftest import Apart
from tests.fakes.git_server import GitServer
from tests.harness.checkouts import Yard, running_yard
from tests.harness.errands import lose
from tests.harness.runs import chain
from tests.histories.files import opened_payloads, raw
from tests.waiting import until
from worker.parts import chores_of
from workflows.policies import CLONE_RETRY


@pytest.fixture(scope="module")
def postgres_url(apart: Apart) -> str:
    """Not the session's: its worker would take the work of this module's, and has another key."""
    return apart.postgres_url


@pytest.fixture(scope="module")
def temporal_address(apart: Apart) -> str:
    return apart.temporal_address


@pytest.fixture(scope="module")
async def database(postgres_url: str) -> AsyncIterator[Database]:
    url = Settings(database_url=postgres_url).sqlalchemy_url
    database = Database.connect(url, pool_size=5)
    yield database
    await database.close()


@pytest.fixture
async def yard(
    clean_database: Database, postgres_url: str, temporal_address: str, tmp_path: Path
) -> AsyncIterator[Yard]:
    """Project ids that no workflow of the session's Temporal has had: an id runs once for ever."""
    async with clean_database.transaction() as tx:
        start = secrets.randbelow(10**9) + 1000
        await tx.conn.execute(text(f"ALTER TABLE projects ALTER COLUMN id RESTART WITH {start}"))
    async with running_yard(postgres_url, temporal_address, tmp_path) as yard:
        yield yard


def checkout_of(project: Project, run: int = 1) -> str:
    return names.checkout_workflow_id(project.id, run)


def removal_of(project: Project) -> str:
    return names.removal_workflow_id(project.id)


@pytest.fixture
async def worker(yard: Yard) -> AsyncIterator[None]:
    async with yard.worker() as worker:
        yield worker


async def told(database: Database) -> list[str]:
    """Return the states that events told of."""
    async with database.transaction() as tx:
        rows = await tx.conn.execute(
            select(EventRow.data).where(EventRow.type == "project.checkout").order_by(EventRow.seq)
        )
        return [str(row.data["status"]) for row in rows]


async def closed(yard: Yard, workflow_id: str) -> WorkflowExecutionStatus | None:
    """Wait until a run is over and return how."""
    handle = yard.client.get_workflow_handle(workflow_id)

    async def is_closed() -> bool:
        try:
            described = await handle.describe()
        except RPCError:
            return False
        return described.status is not WorkflowExecutionStatus.RUNNING

    await until(is_closed, timeout=40, what=f"{workflow_id} to close")
    return (await handle.describe()).status


async def test_a_project_without_a_repository_gets_an_empty_one(
    yard: Yard, worker: Worker, database: Database
):
    project = await yard.project()
    ready = await yard.reaches(project, CheckoutStatus.READY)
    assert ready.default_branch == "main"
    _, workspace = await yard.core.workspaces.open(project.id)
    assert (await workspace.repository.status()).branch == "main"
    assert (await workspace.files.list()).entries == []
    await workspace.files.write("src/a.txt", b"hello")
    await workspace.repository.stage(["src"])
    assert (await workspace.repository.commit("First")).parents == []
    assert await told(database) == ["cloning", "ready"]
    assert yard.left() == [str(project.id)]


async def test_a_repository_is_cloned_whole(yard: Yard, worker: Worker):
    project = await yard.project(repository_url=yard.server.url())
    ready = await yard.reaches(project, CheckoutStatus.READY)
    assert (ready.default_branch, ready.checkout_reason) == ("trunk", None)
    _, workspace = await yard.core.workspaces.open(project.id)
    assert workspace.path == yard.places / str(project.id) / "tree"
    listed = await workspace.files.list(recursive=True)
    assert [entry.path for entry in listed.entries] == ["a", "dir", "dir/b"]
    assert (await workspace.repository.commits(5))[0].message == "First"
    assert yard.left() == [str(project.id)]
    result = await yard.client.get_workflow_handle(checkout_of(project)).result()
    assert result == {"outcome": "ready"}


async def test_a_remote_that_comes_back_is_asked_again(
    yard: Yard, worker: Worker, database: Database
):
    yard.server.fail = [503, 500]
    project = await yard.project(repository_url=yard.server.url())
    await yard.reaches(project, CheckoutStatus.READY)
    assert await told(database) == ["cloning", "ready"]
    [history] = await chain(yard.client, checkout_of(project))
    assert max_attempt(history) == 3


async def test_what_the_remote_refuses_is_told_and_may_be_tried_again(
    yard: Yard, worker: Worker, database: Database
):
    project = await yard.project(repository_url=yard.server.url("nothing.git"))
    failed = await yard.reaches(project, CheckoutStatus.FAILED)
    assert "The remote refused" in (failed.checkout_reason or "")
    assert str(yard.places) not in (failed.checkout_reason or "")
    assert yard.left() == []
    with pytest.raises(CheckoutNotReady, match="The remote refused"):
        await yard.core.workspaces.open(project.id)
    right = UpdateProject(repository_url=yard.server.url())
    await yard.core.projects.update(project.id, right)
    ready = await yard.reaches(project, CheckoutStatus.READY)
    assert (ready.checkout_run, ready.checkout_reason) == (2, None)
    assert await told(database) == ["cloning", "failed", "pending", "cloning", "ready"]


async def test_a_branch_that_is_not_there_fails_the_checkout(yard: Yard, worker: Worker):
    project = await yard.project(repository_url=yard.server.url(), default_branch="nowhere")
    failed = await yard.reaches(project, CheckoutStatus.FAILED)
    assert failed.checkout_reason == "The remote has no branch nowhere"


async def test_a_workspace_is_not_opened_before_its_checkout_is_whole(yard: Yard):
    project = await yard.project()
    with pytest.raises(CheckoutNotReady, match="is pending"):
        await yard.core.workspaces.open(project.id)


async def in_mid_clone(yard: Yard) -> Project:
    """Make a project whose clone hangs at the remote."""
    yard.server.gate.clear()
    project = await yard.project(repository_url=yard.server.url())
    await until(lambda: yard.server.requests, timeout=40, what="the clone to reach the remote")
    return project


async def test_a_worker_killed_in_mid_clone_is_followed_by_another(
    yard: Yard, database: Database, tmp_path: Path
):
    assert yard.settings.encryption_key is not None
    environment = os.environ | {
        "DATABASE_URL": yard.settings.database_url,
        "TEMPORAL_ADDRESS": yard.settings.temporal_address,
        "ENCRYPTION_KEY": yard.settings.encryption_key.get_secret_value(),
        "CONCLAVE_DATA_DIR": str(yard.settings.conclave_data_dir),
    }
    with (tmp_path / "worker.log").open("wb") as log:
        killed = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.harness.checkout_worker",
            env=environment,
            stdout=log,
            stderr=log,
        )
    project = await in_mid_clone(yard)
    [half] = yard.left()
    assert half.startswith(f".making-{project.id}.")
    killed.kill()
    await killed.wait()
    assert yard.left() == [half], "nobody tidied up"
    yard.server.gate.set()
    async with yard.worker():
        await yard.reaches(project, CheckoutStatus.READY)
        await closed(yard, checkout_of(project))
    assert yard.left() == [str(project.id)]
    assert await told(database) == ["cloning", "ready"]
    _, workspace = await yard.core.workspaces.open(project.id)
    assert (await workspace.repository.status()).untracked == []
    [history] = await chain(yard.client, checkout_of(project))
    assert max_attempt(history) == 2


def max_attempt(history: WorkflowHistory) -> int:
    """Return how often the activity tried most was tried."""
    return max(event.activity_task_started_event_attributes.attempt for event in history.events)


async def test_a_delete_in_mid_clone_stops_it_and_leaves_no_files(yard: Yard, worker: Worker):
    project = await in_mid_clone(yard)
    await yard.core.projects.delete(project.id)
    assert await closed(yard, checkout_of(project)) is WorkflowExecutionStatus.CANCELED
    assert await closed(yard, removal_of(project)) is WorkflowExecutionStatus.COMPLETED
    assert yard.left() == []
    with pytest.raises(ProjectNotFound):
        await yard.core.workspaces.open(project.id)


async def test_the_files_of_a_deleted_project_are_removed(yard: Yard, worker: Worker):
    project = await yard.project(repository_url=yard.server.url())
    other = await yard.project()
    for one in (project, other):
        await yard.reaches(one, CheckoutStatus.READY)
    await yard.core.projects.delete(project.id)
    await closed(yard, removal_of(project))
    assert yard.left() == [str(other.id)]
    assert list((yard.places / ".deleted").iterdir()) == []


async def test_a_cancel_in_temporal_fails_the_checkout_in_the_record(yard: Yard, worker: Worker):
    project = await in_mid_clone(yard)
    handle = yard.client.get_workflow_handle(checkout_of(project))
    await handle.cancel()
    failed = await yard.reaches(project, CheckoutStatus.FAILED)
    assert failed.checkout_reason == "Cancelled"
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert yard.left() == []


async def test_another_repository_in_mid_clone_takes_the_place_of_the_first(
    yard: Yard, worker: Worker, tmp_path: Path
):
    project = await in_mid_clone(yard)
    with GitServer(yard.origin.bare.parent) as second:
        yard.origin.commit({"only-in-second": "x"})
        await yard.core.projects.update(project.id, UpdateProject(repository_url=second.url()))
        ready = await yard.reaches(project, CheckoutStatus.READY)
    assert ready.checkout_run == 2
    assert await closed(yard, checkout_of(project)) is WorkflowExecutionStatus.CANCELED
    _, workspace = await yard.core.workspaces.open(project.id)
    assert (await workspace.files.stat("only-in-second")).size == 1
    assert yard.left() == [str(project.id)]


async def test_a_start_that_was_lost_is_delivered_by_the_relay(
    yard: Yard, worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(yard.core.errands, "run", lose)
    project = await yard.project()

    async def relayed() -> int:
        return await yard.parts.relay.relay_due()

    await until(relayed, what="the wake-up to be due")
    await yard.reaches(project, CheckoutStatus.READY)
    # Told again, by whoever, it changes nothing.
    await yard.core.project_dispatch.deliver(project.id)
    await yard.core.projects.delete(project.id)
    for _ in range(2):
        await yard.core.project_dispatch.deliver(project.id)
    await closed(yard, removal_of(project))
    await yard.core.project_dispatch.deliver(project.id)
    assert yard.left() == []


async def test_histories_hold_neither_addresses_nor_names(yard: Yard, worker: Worker):
    project = await yard.project(name="kolibri", repository_url=yard.server.url())
    await yard.reaches(project, CheckoutStatus.READY)
    await closed(yard, checkout_of(project))
    [history] = await chain(yard.client, checkout_of(project))
    assert yard.core.codec is not None
    opened = await opened_payloads(history, yard.core.codec)
    everything = raw(history) + b"".join(payload.SerializeToString() for payload in opened)
    assert f'"project_id":{project.id}'.encode() in everything.replace(b" ", b"")
    for secret in (b"kolibri", b"git.example", b"trunk"):
        assert secret not in everything


@pytest.fixture
def service(yard: Yard) -> CheckoutService:
    return CheckoutService(yard.core.db, yard.core.events, yard.core.workspace_store)


def nothing(_: str) -> None:
    """No progress is wanted."""


async def test_a_second_run_of_the_activity_finds_the_work_of_the_first(
    yard: Yard, service: CheckoutService, database: Database
):
    project = await yard.project(repository_url=yard.server.url())
    asked = CheckoutInput(project_id=project.id, run=1)
    both = await asyncio.gather(
        *(service.clone(asked, attempt=n, progress=nothing) for n in (1, 2)),
        return_exceptions=True,
    )
    # The later attempt takes the earlier one's place away; one of them is whole.
    assert CheckoutOutcome.READY in [getattr(one, "outcome", None) for one in both]
    again = await service.clone(asked, attempt=3, progress=nothing)
    assert again.outcome is CheckoutOutcome.READY
    assert await told(database) == ["cloning", "ready"]
    assert yard.left() == [str(project.id)]
    late = CheckoutSettleInput(project_id=project.id, run=1, reason="too late")
    assert (await service.settle(late)).outcome is CheckoutOutcome.READY


async def test_files_of_an_attempt_that_could_not_commit_are_replaced(
    yard: Yard, service: CheckoutService
):
    project = await yard.project(repository_url=yard.server.url())
    leftover = await yard.core.workspace_store.make(str(project.id))
    await leftover.files.write("leftover", b"x")
    asked = CheckoutInput(project_id=project.id, run=1)
    await service.clone(asked, attempt=1, progress=nothing)
    _, workspace = await yard.core.workspaces.open(project.id)
    assert [entry.path for entry in (await workspace.files.list()).entries] == ["a", "dir"]


async def test_a_run_that_nobody_wants_any_more_changes_nothing(
    yard: Yard, service: CheckoutService, database: Database
):
    project = await yard.project(repository_url=yard.server.url())
    stale = CheckoutInput(project_id=project.id, run=2)
    assert (
        await service.clone(stale, attempt=1, progress=nothing)
    ).outcome is CheckoutOutcome.SUPERSEDED
    settle = CheckoutSettleInput(project_id=project.id, run=2, reason="x")
    assert (await service.settle(settle)).outcome is CheckoutOutcome.SUPERSEDED
    assert (await yard.core.projects.get(project.id)).checkout_status is CheckoutStatus.PENDING
    await service.remove(project.id)
    await service.clone(CheckoutInput(project_id=project.id, run=1), attempt=1, progress=nothing)
    await service.remove(project.id)
    assert yard.left() == [str(project.id)], "a living project keeps its files"


async def test_a_remote_that_stays_away_is_given_up(yard: Yard, service: CheckoutService):
    yard.server.fail = [503] * 20
    project = await yard.project(repository_url=yard.server.url())
    asked = CheckoutInput(project_id=project.id, run=1)
    with pytest.raises(CheckoutGivenUp, match=r"cannot be reached.*\(8 tries\)") as given_up:
        await service.clone(asked, attempt=8, progress=nothing)
    assert not given_up.value.retryable
    assert CLONE_RETRY.maximum_attempts == 0
    assert yard.left() == []


async def test_a_chat_without_a_project_has_a_place_of_its_own_until_it_is_deleted(yard: Yard):
    chats = [await yard.core.chats.create(CreateChat(), LOCAL_PRINCIPAL) for _ in range(2)]
    kept, deleted = (scratch_name(chat.conversation_id) for chat in chats)
    for name in (kept, deleted, "7"):
        scratch = await yard.core.workspaces.scratch(name)
        await scratch.files.write("notes.md", b"x")
    again = await yard.core.workspaces.scratch(kept)
    assert (await again.files.read("notes.md")).text == "x"
    assert not await again.repository.exists()
    upkeep = chores_of(yard.core)[ChoreName.REMOVE_SCRATCH_WORKSPACES]
    assert await upkeep.run() == 0
    await yard.core.chats.delete(chats[1].chat_id, LOCAL_PRINCIPAL)
    assert await upkeep.run() == 1
    assert await upkeep.run() == 0
    assert yard.left() == sorted(["7", kept])

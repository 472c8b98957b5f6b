"""Projects in the core: what two callers at once and the rules of the checkout make of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conclave.auditing import AuditLog
from conclave.db import Database
from conclave.errands import Errands
from conclave.events import EventLog
from conclave.mailbox import Mailbox
from conclave.workspaces.commands import CreateProject, UpdateProject
from conclave.workspaces.dispatch import ProjectDispatch
from conclave.workspaces.errors import ProjectTaken, RepositoryFixed
from conclave.workspaces.repository import ProjectRepository
from conclave.workspaces.service import ProjectService
from schema.domain.projects import CheckoutStatus, Project, ProjectSource
from tests.fakes.engine import FakeEngine
from tests.waiting import until

SHOP = CreateProject(name="Shop", source=ProjectSource.GITHUB, source_project_id="a/shop")


class AnyUrl:
    """Remotes that are all fine."""

    async def check(self, url: str, *, field: str) -> None:
        """Let it pass."""


class Silent:
    """A bus that nobody listens to."""

    def poke(self) -> None:
        """Say nothing."""


class Desk:
    """The service, and the engine it tells."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.engine = FakeEngine()
        self.errands = Errands()
        dispatch = ProjectDispatch(db, Mailbox(), self.errands, self.engine)
        events = EventLog(Silent())  # pyright: ignore[reportArgumentType]  # poked alone
        self.projects = ProjectService(db, events, AuditLog(), dispatch, AnyUrl())

    async def settle(self, project: Project, status: CheckoutStatus) -> None:
        """Let a checkout have ended."""
        await until(lambda: self.errands.is_idle, what="the errands")
        async with self.db.transaction() as tx:
            await ProjectRepository().set_checkout(tx, project.id, status, reason="x")


@pytest.fixture
async def desk(clean_database: Database, tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(clean_database)
    yield desk
    await until(lambda: desk.errands.is_idle, what="the errands")


async def test_of_two_that_take_the_same_source_at_once_one_is_refused(desk: Desk):
    made = await asyncio.gather(
        *(desk.projects.create(SHOP) for _ in range(5)), return_exceptions=True
    )
    assert len([one for one in made if isinstance(one, Project)]) == 1
    assert len([one for one in made if isinstance(one, ProjectTaken)]) == 4
    _, total = await desk.projects.list(10, 0)
    assert total == 1


async def test_projects_without_a_source_are_never_taken(desk: Desk):
    for _ in range(2):
        await desk.projects.create(CreateProject(name="Mine"))
    assert (await desk.projects.list(10, 0))[1] == 2


@pytest.mark.parametrize(
    ("status", "change", "run"),
    [
        (CheckoutStatus.PENDING, {"repository_url": "https://x/2"}, 2),
        (CheckoutStatus.CLONING, {"repository_url": "https://x/2"}, 2),
        (CheckoutStatus.CLONING, {"repository_url": None}, 2),
        (CheckoutStatus.CLONING, {"repository_url": "https://x/1"}, 1),
        (CheckoutStatus.CLONING, {"default_branch": "other"}, 2),
        (CheckoutStatus.CLONING, {"name": "other"}, 1),
        (CheckoutStatus.FAILED, {"repository_url": "https://x/1"}, 2),
        (CheckoutStatus.FAILED, {"name": "other"}, 1),
        (CheckoutStatus.READY, {"repository_url": "https://x/1"}, 1),
        (CheckoutStatus.READY, {"default_branch": "other"}, 1),
    ],
)
async def test_when_a_change_asks_for_another_checkout(
    desk: Desk, status: CheckoutStatus, change: dict[str, str | None], run: int
):
    made = await desk.projects.create(SHOP.model_copy(update={"repository_url": "https://x/1"}))
    await desk.settle(made, status)
    changed = await desk.projects.update(made.id, UpdateProject.model_validate(change))
    assert changed.checkout_run == run
    expected = CheckoutStatus.PENDING if run == 2 else status
    assert (changed.checkout_status, changed.checkout_reason) == (
        expected,
        None if run == 2 else "x",
    )
    await until(lambda: desk.errands.is_idle, what="the errands")
    assert [one.run for one in desk.engine.checkouts] == list(range(1, run + 1))


async def test_a_ready_repository_stays(desk: Desk):
    made = await desk.projects.create(SHOP)
    await desk.settle(made, CheckoutStatus.READY)
    with pytest.raises(RepositoryFixed):
        await desk.projects.update(made.id, UpdateProject(repository_url="https://x/1"))
    assert (await desk.projects.get(made.id)).repository_url is None

"""Scenes of checkouts and removals to be recorded. Each returns the ids of its runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from temporalio.service import RPCError

from conclave.workspaces.commands import UpdateProject
from schema.domain.projects import CheckoutStatus, Project
from schema.payloads import names
from tests.harness.checkouts import Yard
from tests.waiting import until

Scene = Callable[[Yard], Awaitable[list[str]]]


async def checkout_retried(yard: Yard) -> list[str]:
    """The remote answers at the third try; finished."""
    yard.server.fail = [503, 500]
    project = await yard.project(repository_url=yard.server.url())
    await yard.reaches(project, CheckoutStatus.READY)
    return await _over(yard, names.checkout_workflow_id(project.id, 1))


async def checkout_refused(yard: Yard) -> list[str]:
    """No such repository, then the right one in a run of its own; both finished."""
    project = await yard.project(repository_url=yard.server.url("nothing.git"))
    await yard.reaches(project, CheckoutStatus.FAILED)
    await yard.core.projects.update(project.id, UpdateProject(repository_url=yard.server.url()))
    await yard.reaches(project, CheckoutStatus.READY)
    return await _over(yard, *(names.checkout_workflow_id(project.id, run) for run in (1, 2)))


async def checkout_deleted(yard: Yard) -> list[str]:
    """A delete in mid-clone cancels the checkout and removes the files; both over."""
    project = await _in_mid_clone(yard)
    await yard.core.projects.delete(project.id)
    return await _over(
        yard, names.checkout_workflow_id(project.id, 1), names.removal_workflow_id(project.id)
    )


async def checkout_running(yard: Yard) -> list[str]:
    """Still open, in mid-clone."""
    project = await _in_mid_clone(yard)
    return [names.checkout_workflow_id(project.id, 1)]


SCENES: tuple[Scene, ...] = (
    checkout_retried,
    checkout_refused,
    checkout_deleted,
    checkout_running,
)


async def _in_mid_clone(yard: Yard) -> Project:
    yard.server.gate.clear()
    asked = len(yard.server.requests)
    project = await yard.project(repository_url=yard.server.url())
    await until(lambda: len(yard.server.requests) > asked, what="the clone to reach the remote")
    return project


async def _over(yard: Yard, *workflow_ids: str) -> list[str]:
    for workflow_id in workflow_ids:

        async def is_over(workflow_id: str = workflow_id) -> bool:
            try:
                described = await yard.client.get_workflow_handle(workflow_id).describe()
            except RPCError:
                return False
            return described.close_time is not None

        await until(is_over, timeout=40, what=f"{workflow_id} to be over")
    return [*workflow_ids]

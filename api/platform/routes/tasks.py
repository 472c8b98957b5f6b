"""/api/v1/tasks."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Response

from api.deps import CoreDep, PrincipalDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.listing import Slice, slice_of
from api.platform.schemas.fields import PathId
from api.platform.schemas.tasks import (
    CancelIn,
    TaskIn,
    TaskOut,
    TaskPatch,
    TaskQuery,
    TaskStatsOut,
)

router = CheckedRouter(prefix="/api/v1/tasks", tags=["Tasks"])


@router.get("", summary="List tasks", responses=documented(401, 403, 422, 429, 503))
async def list_tasks(
    core: CoreDep,
    response: Response,
    wanted: Annotated[TaskQuery, Query()],
    piece: Annotated[Slice, Depends(slice_of())],
) -> list[TaskOut]:
    """Newest first."""
    found, total = await core.tasks.list(wanted.to_filter(), piece.limit, piece.offset)
    return piece.answer([TaskOut.from_domain(task) for task in found], total, response)


@router.post(
    "",
    status_code=201,
    summary="Create a task",
    responses=documented(400, 401, 403, 404, 413, 422, 429, 503),
)
async def create_task(core: CoreDep, principal: PrincipalDep, body: TaskIn) -> TaskOut:
    """It is given to `agent_id`, else to the agent that fits best, as soon as that has room."""
    return TaskOut.from_domain(await core.tasks.create(body.to_command(principal)))


@router.get("/stats", summary="Count tasks", responses=documented(401, 403, 429, 503))
async def task_stats(core: CoreDep) -> TaskStatsOut:
    """By status and by priority; every key is present."""
    return TaskStatsOut.from_domain(await core.tasks.stats())


@router.get("/{task_id}", summary="Get a task", responses=documented(401, 403, 404, 422, 429, 503))
async def get_task(core: CoreDep, task_id: PathId) -> TaskOut:
    """With its result, once there is one."""
    return TaskOut.from_domain(await core.tasks.get(task_id))


@router.patch(
    "/{task_id}",
    summary="Change a task",
    responses=documented(400, 401, 403, 404, 409, 413, 422, 429, 503),
)
async def update_task(core: CoreDep, task_id: PathId, body: TaskPatch) -> TaskOut:
    """What is left out stays. An agent that works on it hears of new instructions at its next
    step. `status` moves it by hand; what runs of it is stopped first."""
    return TaskOut.from_domain(await core.tasks.update(task_id, body.to_command()))


@router.post(
    "/{task_id}/cancel",
    summary="Cancel a task",
    responses=documented(400, 401, 403, 404, 409, 413, 422, 429, 503),
)
async def cancel_task(core: CoreDep, task_id: PathId, body: CancelIn | None = None) -> TaskOut:
    """Its model call, its tools and what they started are stopped; nothing of it commits any
    more."""
    reason = None if body is None else body.reason
    return TaskOut.from_domain(await core.tasks.cancel_by_hand(task_id, reason))

"""/circles."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response

from api.deps import CoreDep
from api.errors import documented
from api.gathering.schemas.circles import CircleIn, CircleOut, CirclePatch, MemberIn, MemberOut
from api.gathering.schemas.fields import PathId, PathName
from api.input import CheckedRouter
from api.pagination import Page, Window, window

router = CheckedRouter(prefix="/circles", tags=["Circles"])


@router.get(
    "",
    summary="List circles",
    responses=documented(401, 403, 422, 503),
)
async def list_circles(
    core: CoreDep, response: Response, piece: Annotated[Window, Depends(window(50))]
) -> list[CircleOut] | Page[CircleOut]:
    """Oldest first."""
    circles, total = await core.circles.list(piece.limit, piece.offset)
    return piece.answer([CircleOut.from_domain(circle) for circle in circles], total, response)


@router.post(
    "",
    status_code=201,
    summary="Create a circle",
    responses=documented(400, 401, 403, 409, 413, 422, 503),
)
async def create_circle(core: CoreDep, body: CircleIn) -> CircleOut:
    """A team and the rules it talks under. Start it before its first conversation."""
    return CircleOut.from_domain(await core.circles.create(body.to_command()))


@router.get(
    "/{name}",
    summary="Get a circle",
    responses=documented(401, 403, 404, 422, 503),
)
async def get_circle(core: CoreDep, name: PathName) -> CircleOut:
    """With its rules, and how many agents are in it."""
    return CircleOut.from_domain(await core.circles.get(name))


@router.patch(
    "/{name}",
    summary="Update a circle",
    responses=documented(400, 401, 403, 404, 409, 413, 422, 503),
)
async def update_circle(core: CoreDep, name: PathName, body: CirclePatch) -> CircleOut:
    """`config` is merged key by key. The name cannot change."""
    return CircleOut.from_domain(await core.circles.update(name, body.to_command()))


@router.delete(
    "/{name}",
    status_code=204,
    summary="Delete a circle",
    responses=documented(401, 403, 404, 409, 422, 503),
)
async def delete_circle(core: CoreDep, name: PathName) -> None:
    """Ends its conversations. An active circle is not deleted: 409."""
    await core.circles.delete(name)


@router.post(
    "/{name}/start",
    summary="Start a circle",
    responses=documented(401, 403, 404, 409, 422, 503),
)
async def start_circle(core: CoreDep, name: PathName) -> CircleOut:
    """From created to active."""
    return CircleOut.from_domain(await core.circles.start(name))


@router.post(
    "/{name}/pause",
    summary="Pause a circle",
    responses=documented(401, 403, 404, 409, 422, 503),
)
async def pause_circle(core: CoreDep, name: PathName) -> CircleOut:
    """From active to paused: its conversations stop at their next turn boundary."""
    return CircleOut.from_domain(await core.circles.pause(name))


@router.post(
    "/{name}/resume",
    summary="Resume a circle",
    responses=documented(401, 403, 404, 409, 422, 503),
)
async def resume_circle(core: CoreDep, name: PathName) -> CircleOut:
    """From paused to active: its conversations go on."""
    return CircleOut.from_domain(await core.circles.resume(name))


@router.post(
    "/{name}/archive",
    summary="Archive a circle",
    responses=documented(401, 403, 404, 409, 422, 503),
)
async def archive_circle(core: CoreDep, name: PathName) -> CircleOut:
    """From any status, for good: its conversations end."""
    return CircleOut.from_domain(await core.circles.archive(name))


@router.get(
    "/{name}/agents",
    summary="List a circle's agents",
    responses=documented(401, 403, 404, 422, 503),
)
async def list_members(
    core: CoreDep,
    response: Response,
    name: PathName,
    piece: Annotated[Window, Depends(window(50))],
) -> list[MemberOut] | Page[MemberOut]:
    """In the order of their turns: as they joined."""
    members, total = await core.circles.members(name, piece.limit, piece.offset)
    return piece.answer([MemberOut.from_domain(member) for member in members], total, response)


@router.post(
    "/{name}/agents",
    status_code=201,
    summary="Add an agent to a circle",
    responses=documented(400, 401, 403, 404, 409, 413, 422, 503),
)
async def add_member(core: CoreDep, name: PathName, body: MemberIn) -> MemberOut:
    """Once, and not beyond the circle's `max_agents`. Observers get no turn."""
    return MemberOut.from_domain(await core.circles.add_member(name, body.to_command()))


@router.delete(
    "/{name}/agents/{agent_id}",
    status_code=204,
    summary="Remove an agent from a circle",
    responses=documented(401, 403, 404, 409, 422, 503),
)
async def remove_member(core: CoreDep, name: PathName, agent_id: PathId) -> None:
    """The agent itself stays."""
    await core.circles.remove_member(name, agent_id)

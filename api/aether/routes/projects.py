"""/api/projects."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response

from api.aether.documenting import documented
from api.aether.listing import Piece, piece_of
from api.aether.schemas.deletion import Deleted
from api.aether.schemas.fields import PathId
from api.aether.schemas.projects import ProjectIn, ProjectOut, ProjectPatch
from api.deps import CoreDep
from api.input import CheckedRouter

router = CheckedRouter(prefix="/api/projects", tags=["Projects"])


@router.get("", summary="List projects", responses=documented(400, 401, 403, 503))
async def list_projects(
    core: CoreDep, response: Response, piece: Annotated[Piece, Depends(piece_of())]
) -> list[ProjectOut]:
    """Oldest first."""
    projects, total = await core.projects.list(piece.limit, piece.offset)
    return piece.answer([ProjectOut.from_domain(one) for one in projects], total, response)


@router.get("/{project_id}", summary="Get a project", responses=documented(400, 401, 403, 404, 503))
async def get_project(core: CoreDep, project_id: PathId) -> ProjectOut:
    """With how far its checkout is."""
    return ProjectOut.from_domain(await core.projects.get(project_id))


@router.post(
    "",
    status_code=201,
    summary="Create a project",
    responses=documented(400, 401, 403, 409, 413, 503),
)
async def create_project(core: CoreDep, body: ProjectIn) -> ProjectOut:
    """Answers at once; a workflow clones the repository, or makes an empty one."""
    return ProjectOut.from_domain(await core.projects.create(body.to_command()))


@router.put(
    "/{project_id}",
    summary="Update a project",
    responses=documented(400, 401, 403, 404, 409, 413, 503),
)
async def update_project(core: CoreDep, project_id: PathId, body: ProjectPatch) -> ProjectOut:
    """Changes what is sent.

    `repository_url` is fixed once the checkout is ready; where the checkout failed, sending it
    tries again.
    """
    return ProjectOut.from_domain(await core.projects.update(project_id, body.to_command()))


@router.delete(
    "/{project_id}", summary="Delete a project", responses=documented(400, 401, 403, 404, 503)
)
async def delete_project(core: CoreDep, project_id: PathId) -> Deleted:
    """At once; a workflow stops its checkout and removes its files."""
    await core.projects.delete(project_id)
    return Deleted()

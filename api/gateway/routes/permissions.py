"""/api/permissions."""

from __future__ import annotations

from api.deps import CoreDep
from api.errors import documented
from api.gateway.schemas.permissions import PermissionsIn, PermissionsOut, ToolNamesOut
from api.input import CheckedRouter

router = CheckedRouter(prefix="/api/permissions", tags=["Permissions"])


@router.get("", summary="Get the permissions", responses=documented(401, 403, 429, 503))
async def get_permissions(core: CoreDep) -> PermissionsOut:
    """What chats may do with tools: the mode, and the tools it does not hold for."""
    return PermissionsOut.from_domain(await core.permissions.current())


@router.put(
    "",
    summary="Change the permissions",
    responses=documented(400, 401, 403, 413, 422, 429, 503),
)
async def update_permissions(core: CoreDep, body: PermissionsIn) -> PermissionsOut:
    """What is left out stays; `tool_overrides` takes the place of all overrides there are."""
    permissions = await core.permissions.update(body.mode, body.tool_overrides)
    return PermissionsOut.from_domain(permissions)


@router.get("/tools", summary="List tool names", responses=documented(401, 403, 429, 503))
async def list_tools(core: CoreDep) -> ToolNamesOut:
    """The names that `tool_overrides` may hold."""
    return ToolNamesOut(tools=core.permissions.tool_names())

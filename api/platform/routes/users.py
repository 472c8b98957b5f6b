"""/api/v1/admin/users: accounts, as administrators handle them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Response

from api.deps import CoreDep, PrincipalDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.listing import Slice, slice_of
from api.platform.schemas.fields import PathId
from api.platform.schemas.users import UserIn, UserOut, UserPatch
from schema.domain.identity import Role

router = CheckedRouter(prefix="/api/v1/admin/users", tags=["Admin"])


@router.get("", summary="List users", responses=documented(401, 403, 422, 503))
async def list_users(
    core: CoreDep,
    response: Response,
    piece: Annotated[Slice, Depends(slice_of())],
    role: Annotated[Role | None, Query(description="With this role only")] = None,
) -> list[UserOut]:
    """Newest first."""
    users, total = await core.identity.users.list(role, piece.limit, piece.offset)
    return piece.answer([UserOut.from_domain(user) for user in users], total, response)


@router.post(
    "",
    status_code=201,
    summary="Create a user",
    responses=documented(400, 401, 403, 409, 413, 422, 503),
)
async def create_user(core: CoreDep, body: UserIn) -> UserOut:
    """A viewer where no role is given. The password follows the policy: else 400."""
    return UserOut.from_domain(await core.identity.users.create(body.to_command()))


@router.patch(
    "/{user_id}",
    summary="Update a user",
    responses=documented(400, 401, 403, 404, 409, 413, 422, 503),
)
async def update_user(
    core: CoreDep, principal: PrincipalDep, user_id: PathId, body: UserPatch
) -> UserOut:
    """Change name, email, role or password, disable or enable. An extension of ours.

    A disabled user's sessions end and API keys stop; another password ends the sessions too. The
    last active administrator can be neither demoted nor disabled: 409.
    """
    user = await core.identity.users.update(user_id, body.to_command(), principal)
    return UserOut.from_domain(user)

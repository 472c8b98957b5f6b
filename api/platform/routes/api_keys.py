"""/api/v1/security/api-keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Response

from api.deps import CoreDep, PrincipalDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.listing import Slice, slice_of
from api.platform.schemas.api_keys import ApiKeyIn, ApiKeyOut, NewApiKeyOut
from api.platform.schemas.fields import PathId

router = CheckedRouter(prefix="/api/v1/security/api-keys", tags=["Security"])


@router.get("", summary="List API keys", responses=documented(401, 403, 422, 429, 503))
async def list_api_keys(
    core: CoreDep,
    principal: PrincipalDep,
    response: Response,
    piece: Annotated[Slice, Depends(slice_of())],
    of_all: Annotated[
        bool, Query(alias="all", description="Every user's, for admins only")
    ] = False,
) -> list[ApiKeyOut]:
    """Your own, revoked and expired ones too, newest first. Never a key itself."""
    keys, total = await core.api_keys.list(
        principal, of_all=of_all, limit=piece.limit, offset=piece.offset
    )
    return piece.answer([ApiKeyOut.from_domain(key) for key in keys], total, response)


@router.post(
    "",
    status_code=201,
    summary="Create an API key",
    responses=documented(400, 401, 403, 413, 422, 429, 503),
)
async def create_api_key(core: CoreDep, principal: PrincipalDep, body: ApiKeyIn) -> NewApiKeyOut:
    """The key is shown here and never again. It may do what its scopes and your role allow."""
    return NewApiKeyOut.of(await core.api_keys.create(body.to_command(), principal))


@router.delete(
    "/{key_id}",
    status_code=204,
    summary="Revoke an API key",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def revoke_api_key(core: CoreDep, principal: PrincipalDep, key_id: PathId) -> None:
    """It opens nothing from now on. Admins may revoke anybody's."""
    await core.api_keys.revoke(key_id, principal)

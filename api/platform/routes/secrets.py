"""/api/v1/secrets."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Response

from api.deps import CoreDep, PrincipalDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.listing import Slice, slice_of
from api.platform.schemas.fields import PathId
from api.platform.schemas.secrets import (
    ExpiringSecretOut,
    SecretIn,
    SecretOut,
    SecretPut,
    SecretRotate,
)

router = CheckedRouter(prefix="/api/v1/secrets", tags=["Secrets"])


async def keep_out_of_caches(response: Response) -> None:
    """The answer may hold a value in the clear."""
    response.headers["Cache-Control"] = "no-store"


@router.get("", summary="List secrets", responses=documented(401, 403, 422, 503))
async def list_secrets(
    core: CoreDep,
    response: Response,
    piece: Annotated[Slice, Depends(slice_of())],
    category: Annotated[str | None, Query(max_length=100)] = None,
) -> list[SecretOut]:
    """Newest first, every value masked."""
    secrets, total = await core.secrets.list(category, piece.limit, piece.offset)
    return piece.answer([SecretOut.from_domain(one) for one in secrets], total, response)


@router.post(
    "",
    status_code=201,
    summary="Create a secret",
    responses=documented(400, 401, 403, 409, 413, 422, 503),
)
async def create_secret(core: CoreDep, principal: PrincipalDep, body: SecretIn) -> SecretOut:
    """Stored encrypted under a data key of its own. Use it as `secret://name`."""
    return SecretOut.from_domain(await core.secrets.create(body.to_command(), principal))


@router.get(
    "/expiring", summary="List secrets about to expire", responses=documented(401, 403, 422, 503)
)
async def list_expiring_secrets(
    core: CoreDep,
    response: Response,
    piece: Annotated[Slice, Depends(slice_of())],
    days: Annotated[int, Query(ge=1, le=3650)] = 7,
    include_expired: bool = False,
) -> list[ExpiringSecretOut]:
    """Those that expire within so many days, soonest first."""
    found, total = await core.secrets.expiring(
        days, piece.limit, piece.offset, include_expired=include_expired
    )
    return piece.answer([ExpiringSecretOut.from_expiring(one) for one in found], total, response)


@router.get(
    "/{secret_id}",
    summary="Get a secret",
    responses=documented(401, 403, 404, 422, 500, 503),
    dependencies=[Depends(keep_out_of_caches)],
)
async def get_secret(
    core: CoreDep,
    secret_id: PathId,
    reveal: Annotated[bool, Query(description="Show the value: counted and audited")] = False,
) -> SecretOut:
    """Masked; with `reveal=true` the value in the clear."""
    return SecretOut.from_shown(await core.secrets.get(secret_id, reveal=reveal))


@router.put(
    "/{secret_id}",
    summary="Update a secret",
    responses=documented(400, 401, 403, 404, 409, 413, 422, 500, 503),
)
async def update_secret(
    core: CoreDep, principal: PrincipalDep, secret_id: PathId, body: SecretPut
) -> SecretOut:
    """What is left out stays. A value makes a new version. A name that is referred to stays."""
    return SecretOut.from_domain(await core.secrets.update(secret_id, body.to_command(), principal))


@router.delete(
    "/{secret_id}",
    status_code=204,
    summary="Delete a secret",
    responses=documented(401, 403, 404, 409, 422, 503),
)
async def delete_secret(core: CoreDep, secret_id: PathId) -> None:
    """What was encrypted is erased. Refused while something refers to the secret."""
    await core.secrets.delete(secret_id)


@router.post(
    "/{secret_id}/rotate",
    summary="Rotate a secret",
    responses=documented(400, 401, 403, 404, 413, 422, 500, 503),
    dependencies=[Depends(keep_out_of_caches)],
)
async def rotate_secret(
    core: CoreDep,
    principal: PrincipalDep,
    secret_id: PathId,
    body: SecretRotate | None = None,
) -> SecretOut:
    """A new version: the value sent, or a random one, which this answer alone shows."""
    command = (body or SecretRotate()).to_command()
    return SecretOut.from_shown(await core.secrets.rotate(secret_id, command, principal))

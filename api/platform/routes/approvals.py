"""/api/v1/approvals."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Response

from api.deps import CoreDep, PrincipalDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.listing import Slice, slice_of
from api.platform.schemas.approvals import (
    ApprovalIn,
    ApprovalOut,
    ApprovalQuery,
    ApproveIn,
    RejectIn,
)
from api.platform.schemas.fields import PathId

router = CheckedRouter(prefix="/api/v1/approvals", tags=["Approvals"])


@router.post(
    "",
    status_code=201,
    summary="Ask for an approval",
    responses=documented(400, 401, 403, 404, 413, 422, 429, 503),
)
async def create_approval(core: CoreDep, principal: PrincipalDep, body: ApprovalIn) -> ApprovalOut:
    """It is pending until enough of its approvers have said yes or one of them no, or its time is
    over. Critical ones need as many as the security settings say, at least."""
    return ApprovalOut.from_domain(await core.approvals.create(body.to_command(principal)))


@router.get("", summary="List approvals", responses=documented(401, 403, 422, 429, 503))
async def list_approvals(
    core: CoreDep,
    principal: PrincipalDep,
    response: Response,
    wanted: Annotated[ApprovalQuery, Query()],
    piece: Annotated[Slice, Depends(slice_of())],
) -> list[ApprovalOut]:
    """Pending ones unless `status` says otherwise, newest first. Those of other people's chats are
    left out."""
    found, total = await core.approvals.list(
        wanted.to_filter(), principal, piece.limit, piece.offset
    )
    return piece.answer([ApprovalOut.from_domain(one) for one in found], total, response)


@router.get(
    "/{approval_id}", summary="Get an approval", responses=documented(401, 403, 404, 422, 429, 503)
)
async def get_approval(core: CoreDep, principal: PrincipalDep, approval_id: PathId) -> ApprovalOut:
    """One whose time is over shows as expired."""
    return ApprovalOut.from_domain(await core.approvals.get(approval_id, principal))


@router.post(
    "/{approval_id}/approve",
    summary="Approve",
    responses=documented(400, 401, 403, 404, 409, 413, 422, 429, 503),
)
async def approve(
    core: CoreDep, principal: PrincipalDep, approval_id: PathId, body: ApproveIn | None = None
) -> ApprovalOut:
    """What runs is what was recorded, or `arguments` in its place. Critical ones need an admin.
    It stays pending until `required_approvals` people have said yes to the same arguments; others
    make the yeses before void."""
    command = (body or ApproveIn()).to_command()
    return ApprovalOut.from_domain(await core.approvals.decide(approval_id, command, principal))


@router.post(
    "/{approval_id}/reject",
    summary="Reject",
    responses=documented(400, 401, 403, 404, 409, 413, 422, 429, 503),
)
async def reject(
    core: CoreDep, principal: PrincipalDep, approval_id: PathId, body: RejectIn | None = None
) -> ApprovalOut:
    """One no is enough. Nothing runs; whoever asked is told the reason."""
    command = (body or RejectIn()).to_command()
    return ApprovalOut.from_domain(await core.approvals.decide(approval_id, command, principal))

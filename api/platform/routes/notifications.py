"""/api/v1/notifications: what the caller is told. Rows of others are not there."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Response

from api.deps import CoreDep, PrincipalDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.listing import Slice, slice_of
from api.platform.schemas.fields import PathId
from api.platform.schemas.notifications import (
    MarkedOut,
    NotificationOut,
    NotificationQuery,
    UnreadOut,
)

router = CheckedRouter(prefix="/api/v1/notifications", tags=["Notifications"])


@router.get("", summary="List one's notifications", responses=documented(401, 403, 422, 429, 503))
async def list_notifications(
    core: CoreDep,
    principal: PrincipalDep,
    response: Response,
    wanted: Annotated[NotificationQuery, Query()],
    piece: Annotated[Slice, Depends(slice_of())],
) -> list[NotificationOut]:
    """The caller's own, newest first; an API key sees those of its user."""
    found, total = await core.notifications.list(
        principal, wanted.to_filter(), piece.limit, piece.offset
    )
    return piece.answer([NotificationOut.from_domain(one) for one in found], total, response)


@router.get(
    "/unread-count", summary="Count unread notifications", responses=documented(401, 403, 429, 503)
)
async def count_unread(core: CoreDep, principal: PrincipalDep) -> UnreadOut:
    """`count` is the same number as `unread_count`."""
    unread = await core.notifications.unread(principal)
    return UnreadOut(unread_count=unread, count=unread)


@router.put("/read-all", summary="Mark all as read", responses=documented(401, 403, 429, 503))
async def read_all(core: CoreDep, principal: PrincipalDep) -> MarkedOut:
    """`marked_count` counts those that were unread."""
    return MarkedOut(marked_count=await core.notifications.read_all(principal))


@router.put(
    "/{notification_id}/read",
    summary="Mark one as read",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def read_one(
    core: CoreDep, principal: PrincipalDep, notification_id: PathId
) -> NotificationOut:
    """One that is read already stays as it is."""
    return NotificationOut.from_domain(await core.notifications.read(notification_id, principal))

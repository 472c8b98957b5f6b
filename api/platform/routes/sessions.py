"""/api/v1/security/sessions: who is signed in."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Response

from api.deps import CoreDep, PrincipalDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.listing import Slice, slice_of
from api.platform.schemas.fields import MAX_ID, PathId
from api.platform.schemas.sessions import SessionOut

router = CheckedRouter(prefix="/api/v1/security/sessions", tags=["Security"])


@router.get("", summary="List live sessions", responses=documented(401, 403, 422, 503))
async def list_sessions(
    core: CoreDep,
    principal: PrincipalDep,
    response: Response,
    piece: Annotated[Slice, Depends(slice_of())],
    user_id: Annotated[int | None, Query(ge=0, le=MAX_ID, description="Of this user only")] = None,
) -> list[SessionOut]:
    """Newest first; what was revoked or has run out is not listed."""
    sessions, total = await core.identity.sessions.list(user_id, piece.limit, piece.offset)
    rows = [SessionOut.of(session, principal) for session in sessions]
    return piece.answer(rows, total, response)


@router.delete(
    "/{session_id}",
    status_code=204,
    summary="End a session",
    responses=documented(401, 403, 404, 422, 503),
)
async def end_session(core: CoreDep, session_id: PathId) -> None:
    """Its tokens are refused from now on. Not in the reference: an extension of ours."""
    await core.identity.sessions.revoke(session_id)

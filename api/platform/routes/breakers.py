"""/api/v1/circuit-breakers."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response

from api.deps import CoreDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.listing import Slice, slice_of
from api.platform.schemas.breakers import BreakerIn, BreakerName, BreakerOut, ForceOpenIn

router = CheckedRouter(prefix="/api/v1/circuit-breakers", tags=["Circuit breakers"])
_OF_ONE = documented(401, 403, 404, 422, 429, 503)


@router.get("", summary="List circuit breakers", responses=documented(401, 403, 422, 429, 503))
async def list_breakers(
    core: CoreDep, response: Response, piece: Annotated[Slice, Depends(slice_of())]
) -> list[BreakerOut]:
    """Newest first. A breaker is made by the first call under its name: `llm:openai`."""
    found, total = await core.breaker_desk.list(piece.limit, piece.offset)
    return piece.answer([BreakerOut.from_domain(one) for one in found], total, response)


@router.post(
    "",
    status_code=201,
    summary="Make or configure a circuit breaker",
    responses=documented(400, 401, 403, 413, 422, 429, 503)
    | {200: {"description": "It was there: its configuration is changed", "model": BreakerOut}},
)
async def configure_breaker(core: CoreDep, response: Response, body: BreakerIn) -> BreakerOut:
    """A new one is closed. One that exists keeps its state, and what is left out."""
    breaker, is_new = await core.breaker_desk.configure(body.to_command())
    response.status_code = 201 if is_new else 200
    return BreakerOut.from_domain(breaker)


@router.get("/{name}", summary="Get a circuit breaker", responses=_OF_ONE)
async def get_breaker(core: CoreDep, name: BreakerName) -> BreakerOut:
    """Open and past `next_attempt_at` shows as half open: the next call is let through."""
    return BreakerOut.from_domain(await core.breaker_desk.get(name))


@router.post(
    "/{name}/force-open",
    summary="Force a circuit breaker open",
    responses=documented(400, 401, 403, 404, 413, 422, 429, 503),
)
async def force_open_breaker(
    core: CoreDep, name: BreakerName, body: ForceOpenIn | None = None
) -> BreakerOut:
    """Nothing is called until it is forced closed or reset: it does not recover by itself."""
    reason = (body or ForceOpenIn()).reason
    return BreakerOut.from_domain(await core.breaker_desk.force_open(name, reason))


@router.post("/{name}/force-close", summary="Force a circuit breaker closed", responses=_OF_ONE)
async def force_close_breaker(core: CoreDep, name: BreakerName) -> BreakerOut:
    """Calls go through again; failures so far no longer count."""
    return BreakerOut.from_domain(await core.breaker_desk.force_close(name))


@router.post("/{name}/reset", summary="Reset a circuit breaker", responses=_OF_ONE)
async def reset_breaker(core: CoreDep, name: BreakerName) -> BreakerOut:
    """Closed, with every counter at zero. Its configuration and its transitions stay."""
    return BreakerOut.from_domain(await core.breaker_desk.reset(name))

"""/api/v1/dead-letter."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Response

from api.deps import CoreDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.listing import Slice, slice_of
from api.platform.schemas.dead_letters import (
    DeadLetterIn,
    DeadLetterOut,
    DeadLetterQuery,
    DeadLetterStatsOut,
    RetriedAllOut,
    RetriedOut,
    RetryAllIn,
)
from api.platform.schemas.fields import PathId

router = CheckedRouter(prefix="/api/v1/dead-letter", tags=["Dead letters"])


@router.get("", summary="List dead letters", responses=documented(401, 403, 422, 429, 503))
async def list_dead_letters(
    core: CoreDep,
    response: Response,
    wanted: Annotated[DeadLetterQuery, Query()],
    piece: Annotated[Slice, Depends(slice_of())],
) -> list[DeadLetterOut]:
    """Open ones unless `status` says otherwise, newest first."""
    found, total = await core.dead_letters.list(wanted.to_filter(), piece.limit, piece.offset)
    return piece.answer([DeadLetterOut.from_domain(one) for one in found], total, response)


@router.post(
    "",
    status_code=201,
    summary="Give a task up",
    responses=documented(400, 401, 403, 404, 409, 413, 422, 429, 503),
)
async def add_dead_letter(core: CoreDep, body: DeadLetterIn) -> DeadLetterOut:
    """The task fails, and what runs of it is stopped."""
    return DeadLetterOut.from_domain(await core.dead_letters.add(body.to_command()))


@router.get("/stats", summary="Count dead letters", responses=documented(401, 403, 429, 503))
async def dead_letter_stats(core: CoreDep) -> DeadLetterStatsOut:
    """`total` and the groups count the open ones."""
    return DeadLetterStatsOut.from_domain(await core.dead_letters.stats())


@router.post(
    "/retry-all",
    summary="Retry dead letters",
    responses=documented(400, 401, 403, 413, 422, 429, 503),
)
async def retry_dead_letters(core: CoreDep, body: RetryAllIn | None = None) -> RetriedAllOut:
    """Those whose error may pass; each task begins another attempt."""
    error_type = None if body is None else body.error_type
    retried, skipped = await core.dead_letters.retry_all(error_type)
    return RetriedAllOut(
        retried_count=retried, skipped_count=skipped, message=f"{retried} tasks are pending again"
    )


@router.get(
    "/{dead_letter_id}",
    summary="Get a dead letter",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def get_dead_letter(core: CoreDep, dead_letter_id: PathId) -> DeadLetterOut:
    """With every attempt that failed."""
    return DeadLetterOut.from_domain(await core.dead_letters.get(dead_letter_id))


@router.post(
    "/{dead_letter_id}/retry",
    summary="Retry a dead letter",
    responses=documented(401, 403, 404, 409, 422, 429, 503),
)
async def retry_dead_letter(core: CoreDep, dead_letter_id: PathId) -> RetriedOut:
    """The same task begins another attempt, its retries counted from 0."""
    letter = await core.dead_letters.retry(dead_letter_id)
    message = f"Task {letter.task_id} is pending again"
    return RetriedOut(id=letter.id, task_id=letter.task_id, message=message)


@router.delete(
    "/{dead_letter_id}",
    status_code=204,
    summary="Discard a dead letter",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def discard_dead_letter(core: CoreDep, dead_letter_id: PathId) -> None:
    """Its task stays failed."""
    await core.dead_letters.discard(dead_letter_id)

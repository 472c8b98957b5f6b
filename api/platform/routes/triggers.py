"""/api/v1/triggers."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Response

from api.deps import CoreDep, PrincipalDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.listing import Slice, slice_of
from api.platform.schemas.fields import PathId
from api.platform.schemas.triggers import (
    FiringIn,
    FiringOut,
    Status,
    ToggleIn,
    TriggerDetailOut,
    TriggerIn,
    TriggerMadeOut,
    TriggerOut,
    TriggerPatch,
    TriggerQuery,
    TriggerRunOut,
    status_of,
)

router = CheckedRouter(prefix="/api/v1/triggers", tags=["Triggers"])
_WRITES = documented(400, 401, 403, 404, 409, 413, 422, 429, 503)


@router.get("", summary="List triggers", responses=documented(401, 403, 422, 429, 503))
async def list_triggers(
    core: CoreDep,
    response: Response,
    wanted: Annotated[TriggerQuery, Query()],
    piece: Annotated[Slice, Depends(slice_of())],
) -> list[TriggerOut]:
    """Newest first. `next_fire_at` is what Temporal says; null where it cannot be asked."""
    found, total = await core.triggers.list(wanted.to_filter(), piece.limit, piece.offset)
    times = await core.triggers.next_times(found)
    rows = [TriggerOut.from_domain(one, times.get(one.id)) for one in found]
    return piece.answer(rows, total, response)


@router.post("", status_code=201, summary="Create a trigger", responses=_WRITES)
async def create_trigger(core: CoreDep, principal: PrincipalDep, body: TriggerIn) -> TriggerMadeOut:
    """A webhook's secret is shown this once: sign what is sent to `url` with it."""
    made = await core.triggers.create(body.to_command(), principal)
    times = await core.triggers.next_times([made.trigger])
    return TriggerMadeOut.of(made, times.get(made.trigger.id))


@router.get(
    "/{trigger_id}", summary="Get a trigger", responses=documented(401, 403, 404, 422, 429, 503)
)
async def get_trigger(core: CoreDep, trigger_id: PathId) -> TriggerDetailOut:
    """With what became of its firings."""
    return TriggerDetailOut.of(await core.triggers.get(trigger_id))


@router.put("/{trigger_id}", summary="Change a trigger", responses=_WRITES)
async def update_trigger(core: CoreDep, trigger_id: PathId, body: TriggerPatch) -> TriggerOut:
    """What is left out stays. `config` and `action` are replaced whole, but for their secrets."""
    trigger = await core.triggers.update(trigger_id, body.to_command())
    times = await core.triggers.next_times([trigger])
    return TriggerOut.from_domain(trigger, times.get(trigger_id))


@router.delete(
    "/{trigger_id}",
    status_code=204,
    summary="Delete a trigger",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def delete_trigger(core: CoreDep, trigger_id: PathId) -> None:
    """Its schedule is removed, its address is free again."""
    await core.triggers.delete(trigger_id)


@router.post("/{trigger_id}/toggle", summary="Enable or disable a trigger", responses=_WRITES)
async def toggle_trigger(
    core: CoreDep, trigger_id: PathId, body: ToggleIn | None = None
) -> TriggerOut:
    """Its schedule is paused while it is disabled; what happens meanwhile does not fire it."""
    trigger = await core.triggers.toggle(trigger_id, None if body is None else body.enabled)
    times = await core.triggers.next_times([trigger])
    return TriggerOut.from_domain(trigger, times.get(trigger_id))


@router.post("/{trigger_id}/test", status_code=202, summary="Fire a trigger", responses=_WRITES)
async def fire_trigger(
    core: CoreDep, trigger_id: PathId, body: FiringIn | None = None
) -> FiringOut:
    """Once, now, active or not, as if `event_data` had happened; its end is in the history."""
    run_id = await core.triggers.fire(trigger_id, (body or FiringIn()).event_data)
    return FiringOut(run_id=run_id, trigger_id=trigger_id)


@router.get(
    "/{trigger_id}/history",
    summary="List a trigger's firings",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def list_firings(
    core: CoreDep,
    response: Response,
    trigger_id: PathId,
    piece: Annotated[Slice, Depends(slice_of())],
    status: Annotated[Status | None, Query(description="Only those that ended so")] = None,
) -> list[TriggerRunOut]:
    """Those that have ended, newest first. Bodies over 64 KB are left out of `event_data`."""
    found, total = await core.triggers.history(
        trigger_id, status_of(status), piece.limit, piece.offset
    )
    return piece.answer([TriggerRunOut.from_domain(one) for one in found], total, response)

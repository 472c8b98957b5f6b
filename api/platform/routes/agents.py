"""/api/v1/agents."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Response

from api.deps import CoreDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.listing import Slice, slice_of
from api.platform.schemas.agents import AgentIn, AgentOut, AgentPatch, AgentQuery
from api.platform.schemas.fields import PathId
from conclave.agents.commands import BusyPolicy

router = CheckedRouter(prefix="/api/v1/agents", tags=["Agents"])


@router.get("", summary="List agents", responses=documented(401, 403, 422, 429, 503))
async def list_agents(
    core: CoreDep,
    response: Response,
    wanted: Annotated[AgentQuery, Query()],
    piece: Annotated[Slice, Depends(slice_of())],
) -> list[AgentOut]:
    """Newest first. `status_filter` goes by the status as it is now."""
    found, total = await core.roster.list(wanted.to_filter(), piece.limit, piece.offset)
    return piece.answer([AgentOut.from_domain(one) for one in found], total, response)


@router.post(
    "",
    status_code=201,
    summary="Create an agent",
    responses=documented(400, 401, 403, 404, 409, 413, 422, 429, 503),
)
async def create_agent(core: CoreDep, body: AgentIn) -> AgentOut:
    """Its slug is made of the name, unless one is given. A provider may still lack its key: the
    demo answers until it has one."""
    return AgentOut.from_domain(await core.roster.create(body.to_command()))


@router.get(
    "/{agent_id}", summary="Get an agent", responses=documented(401, 403, 404, 422, 429, 503)
)
async def get_agent(core: CoreDep, agent_id: PathId) -> AgentOut:
    """With what it did and used so far."""
    return AgentOut.from_domain(await core.roster.get(agent_id))


@router.patch(
    "/{agent_id}",
    summary="Update an agent",
    responses=documented(400, 401, 403, 404, 413, 422, 429, 503),
)
async def update_agent(core: CoreDep, agent_id: PathId, body: AgentPatch) -> AgentOut:
    """What is left out stays. `is_active: false` and `status` end what it does."""
    return AgentOut.from_domain(await core.roster.update(agent_id, body.to_command()))


@router.delete(
    "/{agent_id}",
    status_code=204,
    summary="Delete an agent",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def delete_agent(core: CoreDep, agent_id: PathId) -> None:
    """What it does is stopped; its open tasks wait for another agent."""
    await core.agents.delete(agent_id, BusyPolicy.STOP)


@router.post(
    "/{agent_id}/start",
    summary="Start an agent",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def start_agent(core: CoreDep, agent_id: PathId) -> AgentOut:
    """From any status: it may be given work again."""
    return AgentOut.from_domain(await core.roster.start(agent_id))


@router.post(
    "/{agent_id}/stop",
    summary="Stop an agent",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def stop_agent(core: CoreDep, agent_id: PathId) -> AgentOut:
    """What it does is stopped; its open tasks wait until it is started."""
    return AgentOut.from_domain(await core.roster.stop(agent_id))

"""/agents."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Response

from api.deps import CoreDep, PrincipalDep
from api.errors import documented
from api.gathering.schemas.agents import (
    AgentIn,
    AgentOut,
    AgentPatch,
    AgentRowOut,
    SessionIn,
    SessionOut,
    ShownStatus,
)
from api.gathering.schemas.fields import PathId
from api.input import CheckedRouter
from api.pagination import Page, Window, window
from conclave.agents.commands import AgentFilter, BusyPolicy

router = CheckedRouter(prefix="/agents", tags=["Agents"])


@router.get(
    "",
    summary="List agents",
    responses=documented(401, 403, 422, 503),
)
async def list_agents(
    core: CoreDep,
    response: Response,
    piece: Annotated[Window, Depends(window(50))],
    status: Annotated[ShownStatus | None, Query(description="idle, busy, active, offline")] = None,
) -> list[AgentRowOut] | Page[AgentRowOut]:
    """Oldest first. `status` filters on the status as it is now."""
    statuses = status.meaning() if status else None
    wanted = AgentFilter(statuses=statuses)
    agents, total = await core.agents.list(wanted, piece.limit, piece.offset)
    return piece.answer([AgentRowOut.from_domain(agent) for agent in agents], total, response)


@router.post(
    "",
    status_code=201,
    summary="Create an agent",
    responses=documented(400, 401, 403, 413, 422, 503),
)
async def create_agent(core: CoreDep, body: AgentIn) -> AgentOut:
    """While its provider has no key the demo provider answers in its place."""
    return AgentOut.from_domain(await core.agents.create(body.to_command()))


@router.get(
    "/{agent_id}",
    summary="Get an agent",
    responses=documented(401, 403, 404, 422, 503),
)
async def get_agent(core: CoreDep, agent_id: PathId) -> AgentOut:
    """With its personality, background and config."""
    return AgentOut.from_domain(await core.agents.get(agent_id))


@router.patch(
    "/{agent_id}",
    summary="Update an agent",
    responses=documented(400, 401, 403, 404, 413, 422, 503),
)
async def update_agent(core: CoreDep, agent_id: PathId, body: AgentPatch) -> AgentOut:
    """`config` and `personality` are merged key by key; the rest is replaced."""
    return AgentOut.from_domain(await core.agents.update(agent_id, body.to_command()))


@router.delete(
    "/{agent_id}",
    status_code=204,
    summary="Delete an agent",
    responses=documented(401, 403, 404, 409, 422, 503),
)
async def delete_agent(core: CoreDep, agent_id: PathId) -> None:
    """What it said stays. An agent whose turn runs is not deleted: 409."""
    await core.agents.delete(agent_id, BusyPolicy.REFUSE)


@router.get(
    "/{agent_id}/sessions",
    summary="List an agent's sessions",
    responses=documented(401, 403, 404, 422, 503),
)
async def list_sessions(
    core: CoreDep,
    principal: PrincipalDep,
    response: Response,
    agent_id: PathId,
    piece: Annotated[Window, Depends(window(50))],
) -> list[SessionOut] | Page[SessionOut]:
    """Conversations of this one agent with a caller."""
    sessions, total = await core.conversations.sessions(
        agent_id, principal, limit=piece.limit, offset=piece.offset
    )
    return piece.answer([SessionOut.from_domain(one) for one in sessions], total, response)


@router.post(
    "/{agent_id}/sessions",
    status_code=201,
    summary="Start a session",
    responses=documented(400, 401, 403, 404, 409, 413, 422, 503),
)
async def start_session(
    core: CoreDep, principal: PrincipalDep, agent_id: PathId, body: SessionIn | None = None
) -> SessionOut:
    """A conversation of this one agent with the caller; `initial_prompt` opens it."""
    prompt = (body or SessionIn()).initial_prompt
    return SessionOut.from_domain(
        await core.conversations.open_session(agent_id, prompt, principal)
    )

"""/memory, and an agent's memories."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response

from api.deps import CoreDep, PrincipalDep
from api.errors import documented
from api.gathering.schemas.fields import PathId
from api.gathering.schemas.memories import MemoryIn, MemoryOut
from api.input import CheckedRouter
from api.pagination import Page, Window, window

router = CheckedRouter(tags=["Memory"])


@router.get(
    "/agents/{agent_id}/memories",
    summary="List an agent's memories",
    responses=documented(401, 403, 404, 422, 503),
)
async def list_agent_memories(
    core: CoreDep,
    principal: PrincipalDep,
    response: Response,
    agent_id: PathId,
    piece: Annotated[Window, Depends(window(50))],
) -> list[MemoryOut] | Page[MemoryOut]:
    """Those that belong to this agent, of any scope, oldest first.

    What is remembered of other people's sessions is not among them.
    """
    memories, total = await core.memories.of_agent(agent_id, principal, piece.limit, piece.offset)
    return piece.answer([MemoryOut.from_domain(memory) for memory in memories], total, response)


@router.post(
    "/memory",
    status_code=201,
    summary="Create a memory",
    responses=documented(400, 401, 403, 404, 413, 422, 503),
)
async def create_memory(core: CoreDep, principal: PrincipalDep, body: MemoryIn) -> MemoryOut:
    """A `key` is a label and may repeat. Scope `agent` needs an `agent_id`."""
    return MemoryOut.from_domain(await core.memories.create(body.to_command(), principal))


@router.delete(
    "/memory/{memory_id}",
    status_code=204,
    summary="Delete a memory",
    responses=documented(401, 403, 404, 422, 503),
)
async def delete_memory(core: CoreDep, principal: PrincipalDep, memory_id: PathId) -> None:
    """For good: what it said is not kept."""
    await core.memories.delete(memory_id, principal)

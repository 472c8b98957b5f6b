"""/api/v1/analytics."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Response

from api.deps import CoreDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.listing import Slice, slice_of
from api.platform.schemas.analytics import AgentTasksOut, TaskDayOut
from conclave.agents.commands import AgentFilter, AgentOrder

router = CheckedRouter(prefix="/api/v1/analytics", tags=["Analytics"])


@router.get("/agents", summary="Compare agents", responses=documented(401, 403, 422, 429, 503))
async def compare_agents(
    core: CoreDep, response: Response, piece: Annotated[Slice, Depends(slice_of())]
) -> list[AgentTasksOut]:
    """Those that completed the most tasks first."""
    wanted = AgentFilter(order=AgentOrder.MOST_COMPLETED_FIRST)
    found, total = await core.agents.list(wanted, piece.limit, piece.offset)
    return piece.answer([AgentTasksOut.from_domain(one) for one in found], total, response)


@router.get(
    "/tasks/timeline", summary="Count tasks by day", responses=documented(401, 403, 422, 429, 503)
)
async def tasks_by_day(
    core: CoreDep,
    days: Annotated[int, Query(ge=1, le=365, description="Today is the last of them")] = 30,
) -> list[TaskDayOut]:
    """One row a day of UTC, oldest first, days without tasks too. A task counts on the day it was
    created, by how it stands now."""
    return [TaskDayOut.from_domain(day) for day in await core.analytics.task_days(days)]

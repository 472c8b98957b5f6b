"""/api/v1/cost."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Query

from api.deps import CoreDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.schemas.costs import (
    AgentCostOut,
    BudgetIn,
    BudgetOut,
    DayOut,
    ModelCostOut,
    PriceIn,
    PriceOut,
    SummaryOut,
)

router = CheckedRouter(prefix="/api/v1/cost", tags=["Costs"])

Days: TypeAlias = Annotated[int, Query(ge=1, le=365, description="UTC days, today included")]


@router.get("/summary", summary="Sum up the costs", responses=documented(401, 403, 429, 503))
async def get_summary(core: CoreDep) -> SummaryOut:
    """Totals, the budget, and the last 30 days by day, agent and provider.

    `daily_average` is of the days that have calls; `projected_month` goes on as this month did.
    """
    return SummaryOut.from_domain(await core.costs.summary())


@router.get("/daily", summary="Costs by day", responses=documented(401, 403, 422, 429, 503))
async def get_daily(core: CoreDep, days: Days = 30) -> list[DayOut]:
    """Oldest first, days without calls too. A call belongs to the day on which it began."""
    return [DayOut.from_domain(day) for day in await core.costs.daily(days)]


@router.get("/by-agent", summary="Costs by agent", responses=documented(401, 403, 422, 429, 503))
async def get_by_agent(core: CoreDep, days: Days = 30) -> list[AgentCostOut]:
    """Highest first; agents that were deleted keep theirs."""
    return [AgentCostOut.from_domain(one) for one in await core.costs.by_agent(days)]


@router.get("/by-provider", summary="Costs by model", responses=documented(401, 403, 422, 429, 503))
async def get_by_provider(core: CoreDep, days: Days = 30) -> list[ModelCostOut]:
    """One row for each provider and model, highest first."""
    return [ModelCostOut.from_domain(one) for one in await core.costs.by_model(days)]


@router.get("/budget", summary="Get the monthly budget", responses=documented(401, 403, 429, 503))
async def get_budget(core: CoreDep) -> BudgetOut:
    """The limit of the whole platform for the calendar month (UTC), and what is spent of it."""
    return BudgetOut.from_domain(await core.costs.budget())


@router.put(
    "/budget",
    summary="Set the monthly budget",
    responses=documented(400, 401, 403, 413, 422, 429, 503),
)
async def set_budget(core: CoreDep, body: BudgetIn) -> BudgetOut:
    """0 is no limit. Holds from the next model call on; what the month has spent counts.

    Thresholds are percent, or fractions where none is above 1.
    """
    return BudgetOut.from_domain(await core.costs.set_budget(body.to_command()))


@router.get("/prices", summary="List own prices", responses=documented(401, 403, 429, 503))
async def list_prices(core: CoreDep) -> list[PriceOut]:
    """What administrators said models cost that the built-in price map does not know."""
    return [PriceOut.from_domain(one) for one in await core.costs.prices()]


@router.put(
    "/prices",
    summary="Set a model's price",
    responses=documented(400, 401, 403, 413, 422, 429, 503),
)
async def set_price(core: CoreDep, body: PriceIn) -> PriceOut:
    """For a model that the price map does not know: under a budget it is not called without."""
    return PriceOut.from_domain(await core.costs.set_price(body.to_command()))

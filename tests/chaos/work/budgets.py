"""Budgets: limits nobody reaches, whose counters must agree with the ledger, and poor tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date
from decimal import Decimal

from tests.chaos.work.clients import PATIENCE_SECONDS, Json
from tests.chaos.work.load import ENDS, LIVELY, POLL_SECONDS, Load, Scenario
from tests.chaos.work.parts import Part
from tests.chaos.work.script import Script
from tests.chaos.work.snapshot import Snapshot
from tests.waiting import until

_MONTH_USD, _DAY_USD = 10_000, 5_000
_POOR_USD, _RICH_USD = 0.000001, 10


async def set_limits(load: Load) -> None:
    """Set limits, so that every call is counted against them."""
    await load.clients.ask("PUT", "/api/v1/cost/budget", {"monthly_limit": _MONTH_USD})
    for agent_id in load.agents.values():
        body = {"daily_budget_usd": _DAY_USD}
        await load.clients.ask("PATCH", f"/api/v1/agents/{agent_id}", body)


async def _poor(load: Load) -> None:
    """A task that cannot pay for its first call, until somebody approves of more."""
    task_id = await load.make_task(
        Script(), agent_id=load.agents[LIVELY], budget_usd=_POOR_USD, max_retries=3
    )

    async def waits() -> bool:
        shown = await load.task(task_id)
        # It asks for more by itself, and may have been granted it, and be over, between two looks.
        return shown["error_type"] == "budget_exhausted" or shown["status"] in ENDS

    await until(waits, timeout=PATIENCE_SECONDS, every=POLL_SECONDS, what="a task without money")
    raised: Json = {"task_id": task_id, "to_usd": _RICH_USD}
    while (await load.task(task_id))["status"] not in ENDS:
        await _ask_for_more(load, raised)
    await load.ends(task_id)


async def _ask_for_more(load: Load, raised: Json) -> None:
    """Ask until the load has decided; a no leaves the task waiting, and it is asked again."""
    body = {"type": "budget_increase", "action": "more", "details": raised, "risk_level": "low"}
    status, made = await load.clients.try_to("POST", "/api/v1/approvals", body, refused={409})
    if status == 409:  # the task has ended meanwhile: an earlier answer was cut off
        return

    async def decided() -> bool:
        shown = await load.clients.ask("GET", f"/api/v1/approvals/{made['id']}")
        return shown["status"] != "pending"

    await until(decided, timeout=PATIENCE_SECONDS, every=POLL_SECONDS, what="more money")
    shown = await load.clients.ask("GET", f"/api/v1/approvals/{made['id']}")
    if shown["status"] == "approved":
        await load.ends(raised["task_id"])


def _counters(seen: Snapshot) -> Iterator[str]:
    """Each counter is what its period's calls cost, and nothing is reserved any more."""
    months: defaultdict[date, Decimal] = defaultdict(Decimal)
    days: defaultdict[tuple[int, date], Decimal] = defaultdict(Decimal)
    for call in seen.calls:
        day = call["created_at"].astimezone(UTC).date()
        months[day.replace(day=1)] += call["cost_usd"]
        days[call["agent_id"], day] += call["cost_usd"]
    for row in seen.more["budget_counters"]:
        name = f"the budget of {row['scope']} {row['owner_id']} since {row['since']}"
        is_platform = row["scope"] == "platform"
        spent = months[row["since"]] if is_platform else days[row["owner_id"], row["since"]]
        if row["spent_usd"] != spent:
            yield f"{name} counts {row['spent_usd']}, its calls cost {spent}"
        if row["reserved_usd"]:
            yield f"{name} still has {row['reserved_usd']} reserved"


BUDGETS = Part(
    scenarios=(Scenario("poor", 1, _poor),),
    left="SELECT 1 AS id FROM budget_counters WHERE reserved_usd > 0",
    workflows=(),
    tables={"budget_counters": "SELECT * FROM budget_counters ORDER BY scope, owner_id, since"},
    checks=(_counters,),
    prepare=set_limits,
)

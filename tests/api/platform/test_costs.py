"""/api/v1/cost."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from sqlalchemy import insert

from conclave.agents.commands import BusyPolicy, CreateAgent
from conclave.container import Core
from conclave.conversations.commands import CreateConversation
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.providers import ProviderName
from schema.tables.model_calls import ModelCallRow
from tests.fakes.callers import bearer

PATH = "/api/v1/cost"
TODAY = date(2031, 5, 17)


@pytest.fixture
def today(core: Core, monkeypatch: pytest.MonkeyPatch) -> date:
    now = datetime(2031, 5, 17, 23, 59, tzinfo=UTC)
    monkeypatch.setattr(core.budgets, "clock", lambda: now)
    return TODAY


async def read(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(PATH + path, params=query, headers=bearer("viewer"))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def put(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.put(f"{PATH}/budget", json=body, headers=bearer("admin"))


async def a_ledger(core: Core) -> list[dict[str, Any]]:
    """Store calls of two agents over 80 days, with amounts of nine decimals."""
    agents = [
        await core.agents.create(CreateAgent(name=name, provider=ProviderName.OPENAI, model="m"))
        for name in ("Ada", "Bob")
    ]
    talk = await core.conversations.create(
        CreateConversation(topic="tea", agent_ids=[one.id for one in agents], auto_run=False),
        LOCAL_PRINCIPAL,
    )
    dice = random.Random(7)
    calls = [_a_call(dice, talk.id, agents[dice.randrange(2)].id) for _ in range(400)]
    async with core.db.transaction() as tx:
        await tx.conn.execute(insert(ModelCallRow), calls)
    await core.agents.delete(agents[1].id, BusyPolicy.REFUSE)
    return calls


def _a_call(dice: random.Random, conversation_id: int, agent_id: int) -> dict[str, Any]:
    status = dice.choice(["committed"] * 5 + ["failed", "unknown", "reserved"])
    spent = status in ("committed", "unknown")
    return {
        "conversation_id": conversation_id, "execution": 1, "turn": 1, "step": 1, "attempt": 1,
        "agent_id": agent_id,
        "provider": dice.choice(["openai", "anthropic"]),
        "model": dice.choice(["big", "small"]),
        "status": status,
        "reserved_usd": Decimal(1),
        "cost_usd": Decimal(dice.randrange(10**8)) / 10**9 if spent else Decimal(0),
        "tokens_in": dice.randrange(900) if status == "committed" else 0,
        "tokens_out": dice.randrange(90) if status == "committed" else 0,
        "day": TODAY - timedelta(days=dice.choice([0, 1, 2, 5, 6, 7, 15, 16, 17, 29, 30, 80])),
    }  # fmt: skip


def usd(amount: Decimal) -> float:
    return float(round(amount, 6))


def grouped(
    calls: list[dict[str, Any]], key: Callable[[dict[str, Any]], Any], days: int
) -> dict[Any, dict[str, Any]]:
    """Sum the calls up in Python, those that were sent within so many days."""
    sums: dict[Any, dict[str, Any]] = defaultdict(
        lambda: {"cost": Decimal(0), "in": 0, "out": 0, "count": 0}
    )
    for call in calls:
        if call["status"] == "reserved" or (TODAY - call["day"]).days >= days:
            continue
        found = sums[key(call)]
        found["cost"] += call["cost_usd"]
        found["in"] += call["tokens_in"]
        found["out"] += call["tokens_out"]
        found["count"] += 1
    return sums


@pytest.mark.parametrize("days", [1, 7, 30, 365])
async def test_every_day_is_the_sum_of_its_calls(
    outside: httpx.AsyncClient, core: Core, today: date, days: int
):
    calls = await a_ledger(core)
    found = await read(outside, "/daily", days=days)
    assert [day["date"] for day in found] == [
        (today - timedelta(days=back)).isoformat() for back in reversed(range(days))
    ]
    by_day = grouped(calls, lambda call: call["day"].isoformat(), days)
    shares = grouped(calls, lambda call: (call["day"].isoformat(), call["provider"]), days)
    for day in found:
        sums = by_day[day["date"]]
        assert day == {
            "date": day["date"],
            "total_cost": usd(sums["cost"]),
            "request_count": sums["count"],
            "input_tokens": sums["in"],
            "output_tokens": sums["out"],
            "by_provider": {
                provider: {
                    "cost": usd(share["cost"]),
                    "input_tokens": share["in"],
                    "output_tokens": share["out"],
                }
                for (date_, provider), share in shares.items()
                if date_ == day["date"]
            },
        }


async def test_agents_and_models_are_listed_by_what_they_cost(
    outside: httpx.AsyncClient, core: Core, today: date
):
    calls = await a_ledger(core)
    names = {1: "Ada", 2: "Bob"}
    assert await read(outside, "/by-agent") == [
        {
            "agent_id": agent_id,
            "agent_name": names[agent_id],
            "total_cost": usd(sums["cost"]),
            "total_input_tokens": sums["in"],
            "total_output_tokens": sums["out"],
            "request_count": sums["count"],
        }
        for agent_id, sums in sorted(
            grouped(calls, lambda call: call["agent_id"], 30).items(),
            key=lambda one: -one[1]["cost"],
        )
    ]
    assert await read(outside, "/by-provider", days=16) == [
        {
            "provider": provider,
            "model": model,
            "total_cost": usd(sums["cost"]),
            "total_input_tokens": sums["in"],
            "total_output_tokens": sums["out"],
            "request_count": sums["count"],
            "avg_cost_per_request": usd(sums["cost"] / sums["count"]),
        }
        for (provider, model), sums in sorted(
            grouped(calls, lambda call: (call["provider"], call["model"]), 16).items(),
            key=lambda one: -one[1]["cost"],
        )
    ]


async def test_the_summary_agrees_with_the_ledger(
    outside: httpx.AsyncClient, core: Core, today: date
):
    calls = await a_ledger(core)

    def total(days: int) -> Decimal:
        return sum((one["cost"] for one in grouped(calls, lambda _: 0, days).values()), Decimal(0))

    by_day = grouped(calls, lambda call: call["day"], 30)
    summary = await read(outside, "/summary")
    assert summary["currency"] == "USD"
    assert summary["total"] == usd(total(10_000))
    assert summary["today"] == usd(total(1))
    assert summary["last_7_days"] == usd(total(7))
    assert summary["last_30_days"] == usd(total(30))
    assert summary["month_to_date"] == usd(total(17))
    assert summary["days_with_data"] == len(by_day)
    assert summary["daily_average"] == usd(total(30) / len(by_day))
    assert summary["projected_month"] == usd(total(17) / 17 * 31)
    assert summary["budget"] == await read(outside, "/budget")
    daily = await read(outside, "/daily")
    assert summary["daily_costs"] == [
        {"date": day["date"], "cost": day["total_cost"]} for day in daily
    ]
    agents = await read(outside, "/by-agent")
    assert [one["id"] for one in summary["agent_costs"]] == [one["agent_id"] for one in agents]
    assert summary["agent_costs"][0] == {
        "id": agents[0]["agent_id"],
        "name": agents[0]["agent_name"],
        "provider": "openai",
        "model": "m",
        "tokens_used": agents[0]["total_input_tokens"] + agents[0]["total_output_tokens"],
        "cost": agents[0]["total_cost"],
    }
    shares = grouped(calls, lambda call: call["provider"], 30)
    assert {one["name"]: one["value"] for one in summary["provider_costs"]} == {
        name: usd(sums["cost"]) for name, sums in shares.items()
    }
    assert summary["alerts"] == []


async def test_nothing_was_spent_yet(outside: httpx.AsyncClient, core: Core, today: date):
    del core
    summary = await read(outside, "/summary")
    assert (summary["total"], summary["daily_average"], summary["days_with_data"]) == (0, 0, 0)
    assert len(summary["daily_costs"]) == 30
    assert await read(outside, "/by-agent") == await read(outside, "/by-provider") == []
    assert await read(outside, "/budget") == {
        "has_budget": False,
        "monthly_limit": None,
        "current_spend": 0,
        "remaining": None,
        "percent_used": None,
        "alert_thresholds": [80, 90, 100],
        "is_over_budget": False,
        "hard_stop": True,
        "month_start": "2031-05-01T00:00:00Z",
    }


async def test_a_budget_is_set_over_what_the_month_has_spent(
    outside: httpx.AsyncClient, core: Core, today: date
):
    calls = await a_ledger(core)
    spent = sum((one["cost"] for one in grouped(calls, lambda _: 0, 17).values()), Decimal(0))
    answer = await put(outside, monthly_limit=2.5, alert_thresholds=[0.9, 0.5, 0.9])
    assert answer.status_code == 200, answer.text
    assert answer.json() == await read(outside, "/budget") == {
        "has_budget": True,
        "monthly_limit": 2.5,
        "current_spend": usd(spent),
        "remaining": max(0, usd(Decimal("2.5") - spent)),
        "percent_used": pytest.approx(float(spent / Decimal("2.5") * 100), abs=1e-3),
        "alert_thresholds": [50, 90],
        "is_over_budget": spent >= Decimal("2.5"),
        "hard_stop": True,
        "month_start": "2031-05-01T00:00:00Z",
    }  # fmt: skip
    alerts = (await read(outside, "/summary"))["alerts"]
    assert {alert["level"] for alert in alerts} == {"warning"}
    assert alerts[0].keys() == {"id", "level", "message", "created_at"}

    answer = await put(outside, monthly_limit_usd="0", hard_stop=False)
    assert (answer.json()["has_budget"], answer.json()["hard_stop"]) == (False, False)
    assert answer.json()["alert_thresholds"] == [80, 90, 100]
    assert (await read(outside, "/budget"))["current_spend"] == usd(spent)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ([80, 50, 80.0], [50, 80]),
        ([1], [100]),
        ([0.255, 1], [25.5, 100]),
        ([1, 2], [1, 2]),
        ([0], [0]),
        ([], []),
        ([200], [200]),
    ],
)
async def test_thresholds_are_percent_or_fractions_in_order_and_once(
    outside: httpx.AsyncClient, core: Core, today: date, given: list[float], shown: list[float]
):
    answer = await put(outside, monthly_limit=10, alert_thresholds=given)
    assert answer.json()["alert_thresholds"] == shown


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "monthly_limit"),
        ({"monthly_limit": None}, "monthly_limit"),
        ({"monthly_limit": -0.01}, "monthly_limit"),
        ({"monthly_limit": 10**9}, "monthly_limit"),
        ({"monthly_limit": "much"}, "monthly_limit"),
        ({"monthly_limit": True}, "monthly_limit"),
        ({"monthly_limit": [1]}, "monthly_limit"),
        ({"monthly_limit": 1, "alert_thresholds": [200.5]}, "alert_thresholds"),
        ({"monthly_limit": 1, "alert_thresholds": [-1]}, "alert_thresholds"),
        ({"monthly_limit": 1, "alert_thresholds": 80}, "alert_thresholds"),
        ({"monthly_limit": 1, "alert_thresholds": None}, "alert_thresholds"),
        ({"monthly_limit": 1, "alert_thresholds": [1] * 21}, "alert_thresholds"),
        ({"monthly_limit": 1, "hard_stop": "perhaps"}, "hard_stop"),
    ],
)
async def test_a_budget_that_makes_no_sense_is_refused_and_changes_nothing(
    outside: httpx.AsyncClient, core: Core, today: date, body: dict[str, Any], field: str
):
    before = await read(outside, "/budget")
    answer = await outside.put(f"{PATH}/budget", json=body, headers=bearer("admin"))
    assert answer.status_code == 422, answer.text
    assert field in answer.text
    assert await read(outside, "/budget") == before


@pytest.mark.parametrize("days", ["0", "366", "many", "-1"])
@pytest.mark.parametrize("path", ["/daily", "/by-agent", "/by-provider"])
async def test_days_are_1_to_365(outside: httpx.AsyncClient, core: Core, path: str, days: str):
    answer = await outside.get(f"{PATH}{path}?days={days}", headers=bearer("viewer"))
    assert answer.status_code == 422
    assert "days" in answer.text


async def test_a_price_is_set_again_and_listed(outside: httpx.AsyncClient, core: Core):
    body = {
        "provider": "openai", "model": " house-7b ",
        "input_usd_per_million": 0.25, "output_usd_per_million": "1.5",
    }  # fmt: skip
    for amount in (1, 0.25):
        answer = await outside.put(
            f"{PATH}/prices", json=body | {"input_usd_per_million": amount}, headers=bearer("admin")
        )
        assert answer.status_code == 200, answer.text
    assert await read(outside, "/prices") == [answer.json()]
    shown = answer.json()
    assert shown.pop("updated_at").endswith("Z")
    assert shown == body | {"model": "house-7b", "output_usd_per_million": 1.5}
    for wrong in ({"provider": "nobody"}, {"model": ""}, {"input_usd_per_million": -1}):
        answer = await outside.put(f"{PATH}/prices", json=body | wrong, headers=bearer("admin"))
        assert (answer.status_code, *wrong) == (422, *wrong)

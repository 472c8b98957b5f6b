"""Tasks and approvals: what clients do with them, and where they are stored."""

from __future__ import annotations

from conclave.failpoints import Failpoint
from tests.chaos.work.clients import PATIENCE_SECONDS, Json
from tests.chaos.work.load import ASKING, FLAKY, LIVELY, POLL_SECONDS, Load
from tests.chaos.work.parts import Part, Scenario
from tests.chaos.work.script import Script
from tests.chaos.work.verify import CHECKS
from tests.waiting import until


async def _plain(load: Load) -> None:
    """A task for anybody, of words alone."""
    await load.ends(await load.make_task(Script()))


async def _sending(load: Load) -> None:
    """A task whose agent appends lines; half of them name the agent."""
    script = Script(rounds=load.dice.randint(1, 2), calls=load.dice.randint(1, 2))
    named = {"agent_id": load.agents[LIVELY]} if load.dice.random() < 0.5 else {}
    await load.ends(await load.make_task(script, required_tools=["bash"], **named))


async def _asking(load: Load) -> None:
    """A task whose calls need approvals, which the load decides."""
    script = Script(rounds=1, calls=load.dice.randint(1, 2))
    await load.ends(await load.make_task(script, agent_id=load.agents[ASKING]))


async def _flaky(load: Load) -> None:
    """A task whose first attempt fails with the provider."""
    await load.ends(
        await load.make_task(
            Script(rounds=load.dice.randint(0, 1), failing=1),
            agent_id=load.agents[FLAKY],
            max_retries=2,
        )
    )


async def _refused(load: Load) -> None:
    """A task that fails for good at once, and is left a dead letter."""
    script = Script(is_refused=True, ends="failed")
    await load.ends(await load.make_task(script, agent_id=load.agents[FLAKY]))


async def _revived(load: Load) -> None:
    """A task that fails for good after its retries, and is retried by hand."""
    script = Script(failing=1, ends="failed")
    task_id = await load.make_task(script, agent_id=load.agents[FLAKY], max_retries=0)
    await load.ends(task_id)
    listed = await load.clients.ask("GET", "/api/v1/dead-letter?status=pending_retry&limit=100")
    for letter in listed:
        if letter["task_id"] == task_id:
            path = f"/api/v1/dead-letter/{letter['id']}/retry"
            await load.clients.try_to("POST", path, refused={409})
    await load.ends(task_id)


async def _cancelled(load: Load) -> None:
    """A task that is cancelled at a random moment."""
    task_id = await load.make_task(Script(rounds=2), agent_id=load.agents[LIVELY])
    await load.a_moment()
    load.told.asked_to_cancel.add(task_id)
    path = f"/api/v1/tasks/{task_id}/cancel"
    status, _ = await load.clients.try_to("POST", path, refused={409})
    if status == 200:
        load.told.cancelled.add(task_id)
    await load.ends(task_id)


async def _changed(load: Load) -> None:
    """A task that is described anew while it is worked on."""
    task_id = await load.make_task(Script(rounds=1), required_tools=["bash"])
    await load.begins(task_id)
    await load.a_moment()
    text = f"as of {load.dice.randrange(10**9)}"
    path = f"/api/v1/tasks/{task_id}"
    await load.clients.ask("PATCH", path, {"description": text, "priority": "high"})
    load.told.described[task_id] = text
    await load.ends(task_id)


async def _moved(load: Load) -> None:
    """A task that is given to another agent while it is worked on, or back to whoever fits."""
    task_id = await load.make_task(Script(rounds=1), agent_id=load.agents[LIVELY])
    await load.begins(task_id)
    await load.a_moment()
    change: Json = {"agent_id": load.agents[ASKING]}
    if load.dice.random() < 0.5:
        change = {"status": "pending"}
    await load.clients.try_to("PATCH", f"/api/v1/tasks/{task_id}", change, refused={409})
    await load.ends(task_id)


async def _stopped(load: Load) -> None:
    """An agent that is stopped for a moment: whatever it works on begins again."""
    task_id = await load.make_task(Script(rounds=2), agent_id=load.agents[LIVELY])
    await load.begins(task_id)
    await load.a_moment()
    path = f"/api/v1/agents/{load.agents[LIVELY]}"
    await load.clients.ask("POST", f"{path}/stop")
    await load.a_moment()
    await load.clients.ask("POST", f"{path}/start")
    await load.ends(task_id)


async def _approval(load: Load) -> None:
    """An approval that a person asked for."""
    body = {"action": f"ask {load.dice.randrange(10**9)}", "risk_level": "low"}
    made = await load.clients.ask("POST", "/api/v1/approvals", body)
    load.told.approvals.add(made["id"])

    async def look() -> bool:
        shown = await load.clients.ask("GET", f"/api/v1/approvals/{made['id']}")
        return shown["status"] != "pending"

    await until(look, timeout=PATIENCE_SECONDS, every=POLL_SECONDS, what="a decision")


_SCENARIOS = (
    Scenario("plain", 2, _plain),
    Scenario("sending", 5, _sending),
    Scenario("asking", 3, _asking),
    Scenario("flaky", 2, _flaky),
    Scenario("refused", 1, _refused),
    Scenario("revived", 1, _revived),
    Scenario("cancelled", 2, _cancelled),
    Scenario("changed", 2, _changed),
    Scenario("moved", 2, _moved),
    Scenario("stopped", 1, _stopped),
    Scenario("approval", 2, _approval),
)

TASKS = Part(
    scenarios=_SCENARIOS,
    left=(
        "SELECT id FROM tasks WHERE status NOT IN ('completed', 'failed', 'cancelled')"
        " UNION ALL SELECT id FROM approvals WHERE status = 'pending'"
    ),
    workflows=("Task", "Approval"),
    places=tuple(place for place in Failpoint if place is not Failpoint.IN_WEBHOOK_DELIVERY),
    checks=CHECKS,
)

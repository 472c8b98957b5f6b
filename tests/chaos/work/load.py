"""The work of a chaos run: clients that play one scenario after the other until told to finish.

A scenario is a coroutine over `Load`: it makes its work, does to it what it does, and returns when
the work is over. Each client draws the next one by weight. Scenarios of other kinds of work are
added to `SCENARIOS` where they are merged.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from tests.chaos.work.clients import PATIENCE_SECONDS, Clients, Json
from tests.chaos.work.script import FLAKY_MODEL, Script
from tests.waiting import until

ENDS = frozenset({"completed", "failed", "cancelled"})
_POLL_SECONDS = 0.5
_REJECTED_SHARE = 0.2
_LIVELY, _ASKING, _FLAKY = "Ada", "Grace", "Barbara"


@dataclass
class Told:
    """What clients were answered, and so must be found in the record."""

    created: dict[int, str] = field(default_factory=dict[int, str])
    """Tasks, and their titles."""
    cancelled: set[int] = field(default_factory=set[int])
    asked_to_cancel: set[int] = field(default_factory=set[int])
    """Answered or not: such a task may end as cancelled."""
    described: dict[int, str] = field(default_factory=dict[int, str])
    ended: dict[int, Json] = field(default_factory=dict[int, Json])
    """Tasks as they were shown once they had ended."""
    approvals: set[int] = field(default_factory=set[int])
    decided: dict[int, str] = field(default_factory=dict[int, str])
    played: Counter[str] = field(default_factory=Counter[str])


@dataclass
class Load:
    """Keeps work going."""

    clients: Clients
    players: int
    dice: random.Random
    told: Told = field(default_factory=Told)
    agents: dict[str, int] = field(default_factory=dict[str, int])
    _finishing: bool = False

    @property
    def open_requests(self) -> int:
        """Requests that wait for their answer at this moment."""
        return self.clients.open_requests

    async def run(self, scenarios: Sequence[Scenario]) -> None:
        """Work until `finish`, then until everything begun is over."""
        await self.clients.sign_up()
        for name, model, autonomy in (
            (_LIVELY, "gpt-4o-mini", "autonomous"),
            (_ASKING, "gpt-4o-mini", "supervised"),
            (_FLAKY, FLAKY_MODEL, "autonomous"),
        ):
            config = {"tools": ["bash"], "autonomy_level": autonomy}
            made = await self.clients.ask(
                "POST",
                "/agents",
                {"name": name, "provider": "openai", "model": model, "config": config},
            )
            self.agents[name] = made["id"]
        deciding = asyncio.create_task(self._decide())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.players):
                    group.create_task(self._play(scenarios))
        finally:
            deciding.cancel()
            await asyncio.gather(deciding, return_exceptions=True)

    def finish(self) -> None:
        """Begin nothing more."""
        self._finishing = True

    async def _play(self, scenarios: Sequence[Scenario]) -> None:
        weights = [scenario.weight for scenario in scenarios]
        while not self._finishing:
            [scenario] = self.dice.choices(scenarios, weights)
            await scenario.play(self)
            self.told.played[scenario.name] += 1

    async def decide_all(self) -> int:
        """Decide every approval that waits, also those whose maker never heard of them."""
        listed = await self.clients.ask("GET", "/api/v1/approvals?status=pending&limit=100")
        for one in listed:
            verb, status = ("approve", "approved")
            if self.dice.random() < _REJECTED_SHARE:
                verb, status = ("reject", "rejected")
            answer, _ = await self.clients.try_to(
                "POST", f"/api/v1/approvals/{one['id']}/{verb}", {}, refused={409}
            )
            if answer == 200:
                self.told.decided[one["id"]] = status
        return len(listed)

    async def _decide(self) -> None:
        while True:
            await self.decide_all()
            await asyncio.sleep(_POLL_SECONDS)

    async def make_task(self, script: Script, **fields: object) -> int:
        """Create a task that the model works on by the script."""
        title = f"work {self.dice.randrange(10**9)}"
        body = {"title": title, "instructions": script.instructions, **fields}
        made = await self.clients.ask("POST", "/api/v1/tasks", body)
        self.told.created[made["id"]] = title
        return made["id"]

    async def task(self, task_id: int) -> Json:
        """Return a task as it is shown."""
        return await self.clients.ask("GET", f"/api/v1/tasks/{task_id}")

    async def ends(self, task_id: int) -> Json:
        """Wait until a task has ended; return it."""

        async def look() -> Json | None:
            shown = await self.task(task_id)
            return shown if shown["status"] in ENDS else None

        shown = await until(
            look, timeout=PATIENCE_SECONDS, every=_POLL_SECONDS, what=f"the end of task {task_id}"
        )
        assert shown is not None
        self.told.ended[task_id] = shown
        return shown

    async def begins(self, task_id: int) -> None:
        """Wait until a task is worked on, or over already."""

        async def look() -> bool:
            shown = await self.task(task_id)
            return shown["status"] in {"in_progress", "review", *ENDS}

        await until(
            look, timeout=PATIENCE_SECONDS, every=_POLL_SECONDS, what=f"work on task {task_id}"
        )

    async def a_moment(self) -> None:
        """Let a random moment pass, so that what is done next strikes anywhere."""
        await asyncio.sleep(self.dice.uniform(0, 2))


@dataclass(frozen=True)
class Scenario:
    """A kind of work, drawn by weight."""

    name: str
    weight: int
    play: Callable[[Load], Awaitable[None]]


async def _plain(load: Load) -> None:
    """A task for anybody, of words alone."""
    await load.ends(await load.make_task(Script()))


async def _sending(load: Load) -> None:
    """A task whose agent appends lines; half of them name the agent."""
    script = Script(rounds=load.dice.randint(1, 2), calls=load.dice.randint(1, 2))
    named = {"agent_id": load.agents[_LIVELY]} if load.dice.random() < 0.5 else {}
    await load.ends(await load.make_task(script, required_tools=["bash"], **named))


async def _asking(load: Load) -> None:
    """A task whose calls need approvals, which the load decides."""
    script = Script(rounds=1, calls=load.dice.randint(1, 2))
    await load.ends(await load.make_task(script, agent_id=load.agents[_ASKING]))


async def _flaky(load: Load) -> None:
    """A task whose first attempt fails with the provider."""
    await load.ends(
        await load.make_task(
            Script(rounds=load.dice.randint(0, 1), failing=1),
            agent_id=load.agents[_FLAKY],
            max_retries=2,
        )
    )


async def _refused(load: Load) -> None:
    """A task that fails for good at once, and is left a dead letter."""
    script = Script(is_refused=True, ends="failed")
    await load.ends(await load.make_task(script, agent_id=load.agents[_FLAKY]))


async def _revived(load: Load) -> None:
    """A task that fails for good after its retries, and is retried by hand."""
    script = Script(failing=1, ends="failed")
    task_id = await load.make_task(script, agent_id=load.agents[_FLAKY], max_retries=0)
    await load.ends(task_id)
    listed = await load.clients.ask("GET", "/api/v1/dead-letter?status=pending_retry&limit=100")
    for letter in listed:
        if letter["task_id"] == task_id:
            path = f"/api/v1/dead-letter/{letter['id']}/retry"
            await load.clients.try_to("POST", path, refused={409})
    await load.ends(task_id)


async def _cancelled(load: Load) -> None:
    """A task that is cancelled at a random moment."""
    task_id = await load.make_task(Script(rounds=2), agent_id=load.agents[_LIVELY])
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
    task_id = await load.make_task(Script(rounds=1), agent_id=load.agents[_LIVELY])
    await load.begins(task_id)
    await load.a_moment()
    change: Json = {"agent_id": load.agents[_ASKING]}
    if load.dice.random() < 0.5:
        change = {"status": "pending"}
    await load.clients.try_to("PATCH", f"/api/v1/tasks/{task_id}", change, refused={409})
    await load.ends(task_id)


async def _approval(load: Load) -> None:
    """An approval that a person asked for."""
    body = {"action": f"ask {load.dice.randrange(10**9)}", "risk_level": "low"}
    made = await load.clients.ask("POST", "/api/v1/approvals", body)
    load.told.approvals.add(made["id"])

    async def look() -> bool:
        shown = await load.clients.ask("GET", f"/api/v1/approvals/{made['id']}")
        return shown["status"] != "pending"

    await until(look, timeout=PATIENCE_SECONDS, every=_POLL_SECONDS, what="a decision")


SCENARIOS: list[Scenario] = [
    Scenario("plain", 2, _plain),
    Scenario("sending", 5, _sending),
    Scenario("asking", 3, _asking),
    Scenario("flaky", 2, _flaky),
    Scenario("refused", 1, _refused),
    Scenario("revived", 1, _revived),
    Scenario("cancelled", 2, _cancelled),
    Scenario("changed", 2, _changed),
    Scenario("moved", 2, _moved),
    Scenario("approval", 2, _approval),
]

"""The work of a chaos run: clients that play one scenario after the other until told to finish.

A scenario is a coroutine over `Load`: it makes its work, does to it what it does, and returns when
the work is over. Each client draws the next one by weight.
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
POLL_SECONDS = 0.5
_REJECTED_SHARE = 0.2
LIVELY, ASKING, FLAKY = "Ada", "Grace", "Barbara"
"""Agents: one works without asking, one asks before each call, the provider of one fails."""


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
    made: dict[str, dict[int, Json]] = field(default_factory=dict[str, dict[int, Json]])
    """What else was made, by kind and id, as it was shown last."""
    played: Counter[str] = field(default_factory=Counter[str])

    def note(self, kind: str, number: int, shown: Json) -> None:
        """Keep what a client was shown."""
        self.made.setdefault(kind, {})[number] = shown


@dataclass(frozen=True)
class Scenario:
    """A kind of work, drawn by weight."""

    name: str
    weight: int
    play: Callable[[Load], Awaitable[None]]


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

    async def prepare(self) -> None:
        """Sign up, and make the agents."""
        await self.clients.sign_up()
        for name, model, autonomy in (
            (LIVELY, "gpt-4o-mini", "autonomous"),
            (ASKING, "gpt-4o-mini", "supervised"),
            (FLAKY, FLAKY_MODEL, "autonomous"),
        ):
            config = {"tools": ["bash"], "autonomy_level": autonomy}
            body = {"name": name, "provider": "openai", "model": model, "config": config}
            made = await self.clients.ask("POST", "/agents", body)
            self.agents[name] = made["id"]

    async def run(self, scenarios: Sequence[Scenario]) -> None:
        """Work until `finish`, then until everything begun is over."""
        attending = asyncio.create_task(self._attend())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.players):
                    group.create_task(self._play(scenarios))
        finally:
            attending.cancel()
            await asyncio.gather(attending, return_exceptions=True)

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

    async def wake_agents(self) -> None:
        """Start agents again that rest because too many of their tasks failed in a row."""
        for agent_id in self.agents.values():
            shown = await self.clients.ask("GET", f"/api/v1/agents/{agent_id}")
            if shown["status"] == "error":
                await self.clients.ask("POST", f"/api/v1/agents/{agent_id}/start")

    async def _attend(self) -> None:
        while True:
            await self.decide_all()
            await self.wake_agents()
            await asyncio.sleep(POLL_SECONDS)

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
            look, timeout=PATIENCE_SECONDS, every=POLL_SECONDS, what=f"the end of task {task_id}"
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
            look, timeout=PATIENCE_SECONDS, every=POLL_SECONDS, what=f"work on task {task_id}"
        )

    async def a_moment(self) -> None:
        """Let a random moment pass, so that what is done next strikes anywhere."""
        await asyncio.sleep(self.dice.uniform(0, 2))

"""Which agent gets which task: pure code over what the record says.

Tasks come in the order of priority, deadline, age. An agent that has every required tool and
capability and a free slot fits; whoever has money wins, then the least loaded, then whoever was
idle longest. A worker's own load counts where agents run on workers (platform.md, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from schema.domain.base import Shape


class FreeAgent(Shape):
    """An agent that takes work: its tools, and how much it does already."""

    id: int
    tools: frozenset[str]
    capabilities: frozenset[str]
    running: int
    """Tasks that hold a slot."""
    open: int
    """Those, and what was assigned to it besides."""
    most: int
    idle_since: float
    """Seconds since it was last active; infinite where it never was."""
    is_paused: bool = False
    """Its day's budget is spent: what it is given waits for the next."""


class WaitingTask(Shape):
    """A task without an agent."""

    id: int
    required_tools: frozenset[str]
    required_capabilities: frozenset[str]


class Match(Shape):
    """A task and the agent that gets it."""

    task_id: int
    agent_id: int


@dataclass
class _Place:
    agent: FreeAgent
    open: int = field(default=0)

    @property
    def load(self) -> float:
        return self.open / self.agent.most


def match(waiting: Sequence[WaitingTask], agents: Sequence[FreeAgent]) -> list[Match]:
    """Give tasks to agents, first come first served; those that no agent can take are left out."""
    places = [_Place(agent, agent.open) for agent in agents]
    found: list[Match] = []
    for task in waiting:
        fitting = [
            place
            for place in places
            if place.open < place.agent.most
            and task.required_tools <= place.agent.tools
            and task.required_capabilities <= place.agent.capabilities
        ]
        if not fitting:
            continue
        best = min(fitting, key=_rank)
        best.open += 1
        found.append(Match(task_id=task.id, agent_id=best.agent.id))
    return found


def _rank(place: _Place) -> tuple[bool, float, float, int]:
    agent = place.agent
    return (agent.is_paused, place.load, -agent.idle_since, agent.id)

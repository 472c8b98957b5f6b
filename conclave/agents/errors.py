"""What can go wrong with agents."""

from __future__ import annotations

from conclave.errors import Conflict, NotFound


class AgentNotFound(NotFound):
    """No such agent, or a deleted one."""

    code = "agent_not_found"

    def __init__(self, agent_id: int) -> None:
        super().__init__(f"Agent {agent_id} not found")


class AgentBusy(Conflict):
    """It speaks or does a task just now, and the caller's policy is not to interrupt it."""

    code = "agent_busy"

    def __init__(self, agent_id: int, name: str) -> None:
        super().__init__(
            f"Agent {agent_id} ('{name}') is busy: a turn or task of it runs", status="busy"
        )


class SlugTaken(Conflict):
    """Another living agent has it."""

    code = "slug_taken"

    def __init__(self, slug: str) -> None:
        super().__init__(f"There is an agent with the slug '{slug}' already", field="slug")

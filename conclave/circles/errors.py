"""What can go wrong with circles."""

from __future__ import annotations

from conclave.errors import Conflict, NotFound
from schema.domain.circles import CircleStatus


class CircleNotFound(NotFound):
    """No such circle, or a deleted one."""

    code = "circle_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"Circle '{name}' not found")


class CircleNameTaken(Conflict):
    """Names of living circles are unique."""

    code = "circle_name_taken"

    def __init__(self, name: str) -> None:
        super().__init__(f"Circle '{name}' already exists")


class CircleWrongStatus(Conflict):
    """The circle's present status does not allow it."""

    code = "circle_wrong_status"

    def __init__(self, name: str, action: str, status: CircleStatus) -> None:
        super().__init__(
            f"Circle '{name}' cannot be {action}: it is {status.value}", status=status.value
        )


class CircleFull(Conflict):
    """It has as many agents as its `max_agents` allows."""

    code = "circle_full"

    def __init__(self, name: str, status: CircleStatus, max_agents: int) -> None:
        super().__init__(
            f"Circle '{name}' ({status.value}) is full: max_agents is {max_agents}",
            max_agents=max_agents,
        )


class TooManyMembers(Conflict):
    """`max_agents` cannot go below the number of members."""

    code = "too_many_members"

    def __init__(self, name: str, members: int, max_agents: int) -> None:
        super().__init__(f"Circle '{name}' has {members} agents: max_agents cannot be {max_agents}")


class AlreadyMember(Conflict):
    """An agent is in a circle once."""

    code = "already_member"

    def __init__(self, name: str, agent_id: int) -> None:
        super().__init__(f"Agent {agent_id} is already in circle '{name}'")


class NotMember(NotFound):
    """The agent is not in this circle."""

    code = "not_member"

    def __init__(self, name: str, agent_id: int) -> None:
        super().__init__(f"Agent {agent_id} is not in circle '{name}'")


class NoSuchAgent(NotFound):
    """The agent that should join does not exist."""

    code = "agent_not_found"

    def __init__(self, agent_id: int) -> None:
        super().__init__(f"Agent {agent_id} not found")

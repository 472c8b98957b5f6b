"""What was done, as this dialect counts it."""

from __future__ import annotations

import datetime

from pydantic import BaseModel

from api.platform.schemas.agents import DEFAULT_ROLE, ShownStatus
from conclave.analytics.shapes import TaskDay
from schema.domain.agents import Agent


class AgentTasksOut(BaseModel):
    """What an agent did of its tasks; `total_tasks` are those that ended."""

    id: int
    name: str
    role: str
    status: ShownStatus
    tasks_completed: int
    tasks_failed: int
    total_tasks: int
    success_rate: float
    llm_provider: str
    llm_model: str

    @classmethod
    def from_domain(cls, agent: Agent) -> AgentTasksOut:
        """Return an agent in this dialect's shape."""
        return cls.model_validate(
            {
                **agent.model_dump(),
                "role": agent.role or DEFAULT_ROLE,
                "status": agent.status.told.value,
                "total_tasks": agent.tasks_completed + agent.tasks_failed,
                "success_rate": agent.success_rate,
                "llm_provider": agent.provider,
                "llm_model": agent.model,
            }
        )


class TaskDayOut(BaseModel):
    """The tasks that were created on one day of UTC."""

    date: datetime.date
    total: int
    completed: int
    failed: int

    @classmethod
    def from_domain(cls, day: TaskDay) -> TaskDayOut:
        """Return a day in this dialect's shape."""
        return cls.model_validate(day.model_dump())

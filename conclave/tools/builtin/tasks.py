"""What an agent can say of the task it works on."""

from __future__ import annotations

from pydantic import Field

from conclave.ports.tasks import ProgressDesk
from conclave.tools.builtin.definition import Answer, Arguments, define, failure
from conclave.tools.toolbox import BuiltTool
from schema.domain.tools import Effect, ToolCategory, ToolPlace

_SECONDS = 20


class ReportProgress(Arguments):
    """Of `report_progress`."""

    percent: int = Field(ge=0, le=100, description="How much of it is done.", examples=[50])


class TaskTools:
    """`report_progress`."""

    def __init__(self, progress: ProgressDesk) -> None:
        self._progress = progress

    def tools(self) -> list[BuiltTool]:
        """Return it."""
        return [
            define(
                "report_progress",
                "Tell the people who wait for the task how far you are. Use it in long work.",
                self._report,
                ReportProgress,
                effect=Effect.IDEMPOTENT,
                category=ToolCategory.TASKS,
                timeout_seconds=_SECONDS,
                is_reading=True,
                is_quick=True,
            )
        ]

    async def _report(self, given: ReportProgress, place: ToolPlace) -> Answer:
        if await self._progress.report(place.conversation_id, given.percent):
            return f"Noted: {given.percent} %."
        return failure("There is no task that you work on.")

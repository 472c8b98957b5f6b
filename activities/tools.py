"""Tool calls as activities."""

from __future__ import annotations

from temporalio import activity

from activities.failures import translated
from activities.heartbeats import heartbeats
from conclave.tools.service import ToolService
from schema.payloads import names
from schema.payloads.tools import ExecuteInput, ExecuteResult


class ToolActivities:
    """Runs lines of the tool ledger."""

    def __init__(self, tools: ToolService) -> None:
        self._tools = tools

    @activity.defn(name=names.EXECUTE_TOOL_ACTIVITY)
    async def execute(self, asked: ExecuteInput) -> ExecuteResult:
        """Run one tool call and commit what it answered.

        May run twice: the ledger says whether the call itself does (a `once` call that was
        started never runs again). Heartbeats every second, so that a killed worker is noticed
        and a cancel arrives. What the tool says, errors too, stands in the ledger.
        """
        async with heartbeats():
            with translated():
                return await self._tools.execute(asked, cancel_is_asked=_cancel_is_asked)


def _cancel_is_asked() -> bool:
    """Whether the workflow wants this call to end: not a timeout, nor a worker that stops."""
    details = activity.cancellation_details()
    return details is not None and details.cancel_requested

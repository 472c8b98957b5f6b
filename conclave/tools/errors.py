"""What can go wrong with tools."""

from __future__ import annotations

from conclave.errors import BadRequest, Conflict, NotFound


class ExecutionNotFound(NotFound):
    """No such line in the ledger."""

    code = "tool_execution_not_found"

    def __init__(self, execution_id: int) -> None:
        super().__init__(f"Tool execution {execution_id} not found")


class LateToolAttempt(Conflict):
    """A later attempt runs this call, or the turn is over: nothing is committed."""

    code = "late_tool_attempt"


class InvalidPermissions(BadRequest):
    """An unknown mode, tool or level; the message names the valid ones."""

    code = "invalid_permissions"

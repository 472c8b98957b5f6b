"""Approvals that raise a task's budget: what they ask for, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue, ValidationError

from conclave.db import Transaction
from conclave.errors import Invalid
from conclave.ports.approvals import BudgetGrants
from schema.domain.approvals import Approval, ApprovalRequest, ApprovalStatus, BudgetIncrease


class BudgetIncreases:
    """An `ApprovalSubject` of the type `budget_increase`: `details` {task_id, to_usd}."""

    def __init__(self, grants: BudgetGrants) -> None:
        self._grants = grants

    async def asked(self, tx: Transaction, wanted: ApprovalRequest) -> ApprovalRequest:
        """Return the request as one of its task. Raises `Invalid` for details that do not fit."""
        asked = _read(wanted.details, "details")
        if wanted.task_id not in (None, asked.task_id):
            raise Invalid("details.task_id", "is another task than task_id")
        details = {**wanted.details, **asked.model_dump(mode="json")}
        return wanted.model_copy(update={"task_id": asked.task_id, "details": details})

    async def check_arguments(
        self, tx: Transaction, approval: Approval, arguments: Mapping[str, JsonValue]
    ) -> None:
        """Raise `Invalid` where they are anything but another `to_usd`."""
        if set(arguments) != {"to_usd"}:
            raise Invalid("arguments", "to_usd, and nothing else, can be edited")
        _read({**approval.details, **arguments}, "arguments")

    async def grant(self, tx: Transaction, approval: Approval, granted_by: str) -> None:
        """Nothing: each increase is asked for."""

    async def decided(self, tx: Transaction, approval: Approval) -> None:
        """Raise the budget where people agreed."""
        if approval.status is ApprovalStatus.APPROVED:
            await self._grants.granted(tx, approval)


def _read(fields: Mapping[str, JsonValue], place: str) -> BudgetIncrease:
    try:
        return BudgetIncrease.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise Invalid(".".join([place, *map(str, first["loc"])]), first["msg"]) from None

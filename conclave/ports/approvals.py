"""What becomes of approvals that are about money."""

from __future__ import annotations

from typing import Protocol

from conclave.db import Transaction
from schema.domain.approvals import Approval


class BudgetGrants(Protocol):
    """Raises budgets that people have approved."""

    async def granted(self, tx: Transaction, approval: Approval) -> None:
        """Let a task spend more, within the deciding transaction.

        `schema.domain.approvals.BudgetIncrease.of(approval)` says which one and up to what. The
        task's row is locked. It may have ended meanwhile, or have a larger budget: then nothing
        is done. Called once for an approval.
        """
        ...

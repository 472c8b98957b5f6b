"""What other parts of the core ask of pipelines, inside their own transactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pydantic import JsonValue

from conclave.db import Transaction


class PipelineDesk(Protocol):
    """Starts runs of pipelines."""

    async def start(
        self,
        tx: Transaction,
        workflow_id: int,
        given: Mapping[str, JsonValue],
        *,
        origin_key: str,
        trigger_id: int | None = None,
        chain_depth: int = 0,
    ) -> int | None:
        """Start a run, or return the one the key stands for; None at the pipeline's run limit.

        Its workflow is started once the transaction is committed. Raises `Missing` (404) for a
        pipeline that does not exist and `Conflict` for one that cannot run.
        """
        ...

"""Chores as an activity. A chore may run twice: what is done is not there to be done again."""

from __future__ import annotations

import time
from collections.abc import Mapping

from temporalio import activity

from activities.failures import translated
from conclave.errors import NotFound
from conclave.ports.engine import Chore
from schema.payloads import names
from schema.payloads.upkeep import ChoreInput, ChoreName, ChoreResult

_ENOUGH_SECONDS = 3.0


class ChoreUnknown(NotFound):
    """This worker has no such chore."""

    code = "chore_unknown"


class UpkeepActivities:
    """Does the chores it was given; `policies.CHORE_TIMEOUT` bounds one activity."""

    def __init__(self, chores: Mapping[ChoreName, Chore]) -> None:
        self._chores: dict[str, Chore] = {name.value: chore for name, chore in chores.items()}
        self.available = frozenset(chores)

    @activity.defn(name=names.CHORE_ACTIVITY)
    async def run(self, asked: ChoreInput) -> ChoreResult:
        """Do one chore, a batch at a time, until nothing is left or a few seconds are over.

        Without heartbeats: it is over long before one would be missed. A chore this worker does
        not have fails for good (`chore_unknown`).
        """
        with translated():
            chore = self._chores.get(asked.chore)
            if chore is None:
                raise ChoreUnknown(f"This worker has no chore named {asked.chore[:64]!r}.")
            enough = time.monotonic() + _ENOUGH_SECONDS
            total = 0
            while done := await chore.run():
                total += done
                if time.monotonic() >= enough:
                    return ChoreResult(done=total, is_more_left=True)
            return ChoreResult(done=total, is_more_left=False)

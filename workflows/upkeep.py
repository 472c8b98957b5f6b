"""Upkeep: what has to be done again and again, whatever anybody asks for.

Started by the Temporal Schedules of `workflows.schedules` under ids such as
`upkeep-minute-2026-11-25T17:37:00Z`; takes no messages; lives as long as its chores take, which
is bounded. A chore that fails does not keep the others from being done; the run then fails at its
end, so that lists show it, and the schedule's next one tries again.
"""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from schema.payloads import names
    from schema.payloads.upkeep import ChoreInput, ChoreResult, UpkeepInput, UpkeepResult

from workflows import policies

_ROUNDS = 20
"""Activities of one chore in one run, a few seconds each: the next run does the rest."""


@workflow.defn(name=names.UPKEEP_WORKFLOW)
class UpkeepWorkflow:
    """Does a group of chores, one after another."""

    @workflow.run
    async def run(self, asked: UpkeepInput) -> UpkeepResult:
        """Return what was done; raise ApplicationError naming the chores that failed."""
        result = UpkeepResult()
        failed: list[str] = []
        for chore in asked.chores:
            try:
                result.done[chore] = await _do(chore)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                failed.append(chore)
        if failed:
            raise ApplicationError(
                f"Not done: {', '.join(failed)}", type="chores_failed", non_retryable=True
            )
        return result


async def _do(chore: str) -> int:
    done = 0
    for _ in range(_ROUNDS):
        result = await workflow.execute_activity(
            names.CHORE_ACTIVITY,
            ChoreInput(chore=chore),
            result_type=ChoreResult,
            start_to_close_timeout=policies.CHORE_TIMEOUT,
            schedule_to_close_timeout=policies.CHORE_PATIENCE,
            retry_policy=policies.RECORD_RETRY,
            summary=chore,
        )
        done += result.done
        if not result.is_more_left:
            break
    return done

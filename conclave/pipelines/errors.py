"""What can go wrong with pipelines and their runs. Clients know them as workflows."""

from __future__ import annotations

from conclave.errors import Conflict, Invalid, NotFound
from schema.domain.pipelines import PipelineStatus, RunStatus


class PipelineNotFound(NotFound):
    """No such pipeline, or a deleted one."""

    code = "workflow_not_found"

    def __init__(self, pipeline_id: int) -> None:
        super().__init__(f"Workflow {pipeline_id} not found")


class RunNotFound(NotFound):
    """No such run of this pipeline."""

    code = "workflow_run_not_found"

    def __init__(self, run_id: int) -> None:
        super().__init__(f"Workflow run {run_id} not found")


class StepsCircular(Invalid):
    """Steps that wait for each other would never start."""

    code = "workflow_cycle"

    def __init__(self, step_ids: list[int]) -> None:
        path = " → ".join(str(step_id) for step_id in step_ids)
        super().__init__("depends_on", f"Steps depend on each other in a circle: {path}")


class TooManySteps(Conflict):
    """A pipeline is as long as it may get."""

    code = "workflow_full"

    def __init__(self, most: int) -> None:
        super().__init__(f"A workflow has at most {most} steps")


class PipelineNotRunnable(Conflict):
    """A template, or a pipeline without steps."""

    code = "workflow_not_runnable"

    def __init__(self, reason: str, status: PipelineStatus) -> None:
        super().__init__(reason, status=status.value)


class RunLimitReached(Conflict):
    """As many runs are active as the pipeline may have at once."""

    code = "workflow_run_limit"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"The workflow has {most} active run{'s' if most > 1 else ''}, and may have no more",
            status=PipelineStatus.RUNNING.value,
        )


class RunEnded(Conflict):
    """A run that is over cannot be cancelled."""

    code = "workflow_run_ended"

    def __init__(self, run_id: int, status: RunStatus) -> None:
        super().__init__(f"Workflow run {run_id} is {status.value} already", status=status.value)

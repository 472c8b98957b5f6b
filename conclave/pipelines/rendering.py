"""Pipelines and runs as events and audit entries tell of them."""

from __future__ import annotations

from pydantic import JsonValue

from schema.domain.events import EventDraft, EventType
from schema.domain.pipelines import Pipeline, Run, RunStatus, Step

_ENDS = {
    RunStatus.RUNNING: EventType.WORKFLOW_STARTED,
    RunStatus.COMPLETED: EventType.WORKFLOW_COMPLETED,
    RunStatus.FAILED: EventType.WORKFLOW_FAILED,
}


def run_events(run: Run) -> list[EventDraft]:
    """Return the event that a run's new status is; none for one that was cancelled."""
    type_ = _ENDS.get(run.status)
    if type_ is None:
        return []
    data: dict[str, JsonValue] = {
        "workflow_id": run.pipeline_id,
        "run_id": run.id,
        "name": run.name,
        "status": run.status.value,
    }
    if run.error is not None:
        data["error"] = run.error
    if run.duration_ms is not None:
        data["duration_ms"] = run.duration_ms
    return [EventDraft(stream=f"workflow-{run.pipeline_id}", type=type_, data=data)]


def described(pipeline: Pipeline) -> dict[str, JsonValue]:
    """Return what the audit log tells of a pipeline."""
    return pipeline.model_dump(
        mode="json", include={"name", "description", "is_template", "config"}
    )


def described_step(step: Step) -> dict[str, JsonValue]:
    """Return what the audit log tells of a step."""
    told = step.model_dump(mode="json", exclude={"pipeline_id", "position", "status"})
    return {**told, "order": step.position}

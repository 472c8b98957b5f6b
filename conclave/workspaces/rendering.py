"""Projects as events and audit entries tell of them."""

from __future__ import annotations

from pydantic import JsonValue

from schema.domain.events import EventDraft, EventType
from schema.domain.projects import Project

_CHECKOUT_FIELDS = {"checkout_status", "checkout_reason", "checkout_run"}


def project_event(project: Project, kind: EventType, **more: JsonValue) -> EventDraft:
    """Return an event on the project's stream."""
    data: dict[str, JsonValue] = {
        "project_id": project.id,
        "name": project.name,
        "source": None if project.source is None else project.source.value,
        "source_project_id": project.source_project_id,
        **more,
    }
    return EventDraft(stream=f"project-{project.id}", type=kind, data=data)


def checkout_event(project: Project, status: str, reason: str | None = None) -> EventDraft:
    """Return the event of a checkout that got further."""
    return project_event(
        project, EventType.PROJECT_CHECKOUT, status=status, reason=reason, run=project.checkout_run
    )


def described(project: Project) -> dict[str, JsonValue]:
    """Return the fields that people set, for the audit log."""
    left_out = {"id", "created_at", "updated_at", *_CHECKOUT_FIELDS}
    return project.model_dump(mode="json", exclude=left_out)

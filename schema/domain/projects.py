"""Projects: a repository or a tracker's project, and its checkout."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from schema.domain.base import Shape


class ProjectSource(StrEnum):
    """The platform that a project comes from."""

    GITHUB = "github"
    GITLAB = "gitlab"
    JIRA = "jira"
    PLANE = "plane"


class CheckoutStatus(StrEnum):
    """How far a project's checkout is."""

    PENDING = "pending"
    CLONING = "cloning"
    READY = "ready"
    FAILED = "failed"


class Project(Shape):
    """A project as stored.

    `checkout_reason` is a public sentence where the checkout failed. `checkout_run` counts the
    deliberate tries: each is a workflow run of its own.
    """

    id: int
    name: str
    description: str | None
    source: ProjectSource | None
    source_project_id: str | None
    repository_url: str | None
    default_branch: str | None
    checkout_status: CheckoutStatus
    checkout_reason: str | None
    checkout_run: int
    created_at: datetime
    updated_at: datetime

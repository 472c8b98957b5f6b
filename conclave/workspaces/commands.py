"""What can be asked of projects, in the core's own shapes."""

from __future__ import annotations

from schema.domain.base import Shape
from schema.domain.projects import ProjectSource


class CreateProject(Shape):
    """A new project. Without a `repository_url` it gets an empty repository."""

    name: str
    description: str | None = None
    source: ProjectSource | None = None
    source_project_id: str | None = None
    repository_url: str | None = None
    default_branch: str | None = None


class UpdateProject(Shape):
    """What was set is changed, all else stays."""

    name: str = ""
    description: str | None = None
    source: ProjectSource | None = None
    source_project_id: str | None = None
    repository_url: str | None = None
    default_branch: str | None = None

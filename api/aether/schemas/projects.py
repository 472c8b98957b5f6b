"""Projects as this dialect writes them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints

from api.aether.schemas.fields import Name, Text, Timestamp, refuse_null
from conclave.workspaces.commands import CreateProject, UpdateProject
from schema.domain.projects import CheckoutStatus, Project, ProjectSource
from schema.domain.repositories import is_branch_name


def _plain_branch(name: str) -> str:
    if not is_branch_name(name):
        raise ValueError("is not a name that a git branch can have")
    return name


SourceProjectId = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)
]
RepositoryUrl = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
BranchName = Annotated[str, AfterValidator(_plain_branch)]
NotNull = BeforeValidator(refuse_null)


class ProjectIn(BaseModel):
    """A new project. With a `repository_url` that is cloned, else it gets an empty repository."""

    name: Name
    description: Text | None = None
    source: ProjectSource
    source_project_id: SourceProjectId
    repository_url: RepositoryUrl | None = None
    default_branch: BranchName | None = None

    def to_command(self) -> CreateProject:
        """Return it in the core's words."""
        return CreateProject.model_validate(self.model_dump())


class ProjectPatch(BaseModel):
    """What is to change; all else stays."""

    name: Annotated[Name, NotNull] = ""
    description: Text | None = None
    source: Annotated[ProjectSource, NotNull] = ProjectSource.GITHUB
    source_project_id: Annotated[SourceProjectId, NotNull] = ""
    repository_url: RepositoryUrl | None = None
    default_branch: BranchName | None = None

    def to_command(self) -> UpdateProject:
        """Return what was sent, in the core's words."""
        return UpdateProject.model_validate(self.model_dump(exclude_unset=True))


class CheckoutOut(BaseModel):
    """How far the project's files are."""

    status: CheckoutStatus
    reason: str | None = Field(description="Why it failed")


class ProjectOut(BaseModel):
    """A project."""

    id: int
    name: str
    description: str | None
    source: ProjectSource | None
    source_project_id: str | None
    repository_url: str | None
    default_branch: str | None
    checkout: CheckoutOut
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def from_domain(cls, project: Project) -> ProjectOut:
        """Render one."""
        checkout = CheckoutOut(status=project.checkout_status, reason=project.checkout_reason)
        return cls(
            id=project.id,
            name=project.name,
            description=project.description,
            source=project.source,
            source_project_id=project.source_project_id,
            repository_url=project.repository_url,
            default_branch=project.default_branch,
            checkout=checkout,
            created_at=project.created_at,
            updated_at=project.updated_at,
        )

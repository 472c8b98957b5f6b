"""What can go wrong with projects and their workspaces."""

from __future__ import annotations

from conclave.errors import ConclaveError, Conflict, NotFound
from schema.domain.projects import CheckoutStatus, ProjectSource


class ProjectNotFound(NotFound):
    """No such project, or a deleted one."""

    code = "project_not_found"

    def __init__(self, project_id: int) -> None:
        super().__init__(f"Project {project_id} not found")


class ProjectTaken(Conflict):
    """A living project stands for the same project of the same source."""

    code = "project_taken"

    def __init__(self, source: ProjectSource, source_project_id: str) -> None:
        super().__init__(
            f"A project for {source_project_id} of {source.value} already exists",
            source=source.value,
            source_project_id=source_project_id,
        )


class RepositoryFixed(Conflict):
    """The checkout is there: another repository would take its files away."""

    code = "repository_fixed"

    def __init__(self) -> None:
        super().__init__(
            "repository_url cannot change once the checkout is ready: make another project"
        )


class CheckoutNotReady(Conflict):
    """The project's files are not there yet, or could not be fetched."""

    code = "checkout_not_ready"

    def __init__(self, project_id: int, status: CheckoutStatus, reason: str | None) -> None:
        tail = f": {reason}" if reason else ""
        super().__init__(f"The checkout of project {project_id} is {status.value}{tail}")


class CheckoutGivenUp(ConclaveError):
    """The remote did not answer in as many tries as a checkout has."""

    code = "checkout_given_up"
    status = 502

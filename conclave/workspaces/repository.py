"""All SQL on projects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from conclave.db import Transaction
from schema.domain.projects import CheckoutStatus, Project
from schema.tables.projects import ProjectRow

_COLUMNS = (
    ProjectRow.id,
    ProjectRow.name,
    ProjectRow.description,
    ProjectRow.source,
    ProjectRow.source_project_id,
    ProjectRow.repository_url,
    ProjectRow.default_branch,
    ProjectRow.checkout_status,
    ProjectRow.checkout_reason,
    ProjectRow.checkout_run,
    ProjectRow.created_at,
    ProjectRow.updated_at,
)
_LIVING = ProjectRow.deleted_at.is_(None)


class ProjectRepository:
    """Reads see living projects only."""

    async def insert(self, tx: Transaction, values: Mapping[str, object]) -> Project | None:
        """Store a project; None where its source's project has one already."""
        try:
            async with tx.conn.begin_nested():
                result = await tx.conn.execute(
                    insert(ProjectRow).values(**values).returning(*_COLUMNS)
                )
        except IntegrityError:
            return None
        return Project.model_validate(result.mappings().one())

    async def get(self, tx: Transaction, project_id: int, *, lock: bool = False) -> Project | None:
        """Return one project, locked against other changes where asked."""
        statement = select(*_COLUMNS).where(ProjectRow.id == project_id, _LIVING)
        if lock:
            statement = statement.with_for_update()
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else Project.model_validate(row)

    async def last_run(self, tx: Transaction, project_id: int) -> int | None:
        """Return the last run of a project's checkout, deleted or not; None for no project."""
        row = await tx.conn.execute(
            select(ProjectRow.checkout_run).where(ProjectRow.id == project_id)
        )
        return row.scalar_one_or_none()

    async def list(self, tx: Transaction, limit: int, offset: int) -> tuple[Sequence[Project], int]:
        """Return a piece of the list, oldest first, and the length of the whole."""
        total = await tx.conn.execute(select(func.count()).select_from(ProjectRow).where(_LIVING))
        result = await tx.conn.execute(
            select(*_COLUMNS).where(_LIVING).order_by(ProjectRow.id).limit(limit).offset(offset)
        )
        return [Project.model_validate(row) for row in result.mappings()], total.scalar_one()

    async def update(
        self, tx: Transaction, project_id: int, values: Mapping[str, object]
    ) -> Project | None:
        """Change columns of one project; None where its source's project has one already."""
        statement = (
            update(ProjectRow)
            .where(ProjectRow.id == project_id, _LIVING)
            .values(**values, updated_at=func.clock_timestamp())
            .returning(*_COLUMNS)
        )
        try:
            async with tx.conn.begin_nested():
                result = await tx.conn.execute(statement)
        except IntegrityError:
            return None
        return Project.model_validate(result.mappings().one())

    async def set_checkout(
        self,
        tx: Transaction,
        project_id: int,
        status: CheckoutStatus,
        *,
        reason: str | None = None,
        branch: str | None = None,
    ) -> None:
        """Store how far a checkout is, and the branch it is on where that was found out."""
        values: dict[str, object] = {"checkout_status": status.value, "checkout_reason": reason}
        if branch is not None:
            values["default_branch"] = branch
        await tx.conn.execute(
            update(ProjectRow).where(ProjectRow.id == project_id, _LIVING).values(**values)
        )

    async def delete(self, tx: Transaction, project_id: int) -> None:
        """Mark one project as deleted."""
        await tx.conn.execute(
            update(ProjectRow)
            .where(ProjectRow.id == project_id, _LIVING)
            .values(deleted_at=func.clock_timestamp(), updated_at=func.clock_timestamp())
        )

"""All SQL on notifications."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import ColumnElement, func, insert, literal, select, update

from conclave.db import Transaction
from conclave.notifications.commands import NotificationFilter
from schema.domain.identity import Role
from schema.domain.notifications import Notification
from schema.tables.identity import UserRow
from schema.tables.notifications import NotificationRow

_COLUMNS = (
    NotificationRow.id,
    NotificationRow.user_id,
    NotificationRow.title,
    NotificationRow.message,
    NotificationRow.severity,
    NotificationRow.event_type,
    NotificationRow.meta.label("metadata"),
    NotificationRow.read_at,
    NotificationRow.created_at,
)
_UNREAD = NotificationRow.read_at.is_(None)
_FOR_ALL = (Role.ADMIN.value, Role.OPERATOR.value)


class NotificationRepository:
    """Every read and change is limited to one user's rows."""

    async def insert(
        self, tx: Transaction, user_ids: Collection[int] | None, values: Mapping[str, object]
    ) -> list[Notification]:
        """Store one for each of the users that exist; None: active admins and operators."""
        users = UserRow.deleted_at.is_(None)
        if user_ids is None:
            users &= UserRow.is_active & UserRow.role.in_(_FOR_ALL)
        else:
            users &= UserRow.id.in_(user_ids)
        columns = NotificationRow.__table__.columns
        source = select(
            UserRow.id, *(literal(value, columns[name].type) for name, value in values.items())
        )
        result = await tx.conn.execute(
            insert(NotificationRow)
            .from_select(["user_id", *values], source.where(users).order_by(UserRow.id))
            .returning(*_COLUMNS)
        )
        return [Notification.model_validate(row) for row in result.mappings()]

    async def list(
        self, tx: Transaction, user_id: int, wanted: NotificationFilter, limit: int, offset: int
    ) -> tuple[Sequence[Notification], int]:
        """Return a page, newest first, and the number of all."""
        which: list[ColumnElement[bool]] = [NotificationRow.user_id == user_id]
        if wanted.unread is not None:
            which.append(_UNREAD if wanted.unread else NotificationRow.read_at.is_not(None))
        if wanted.severity is not None:
            which.append(NotificationRow.severity == wanted.severity.value)
        total = await tx.conn.scalar(select(func.count(NotificationRow.id)).where(*which))
        rows = await tx.conn.execute(
            select(*_COLUMNS)
            .where(*which)
            .order_by(NotificationRow.id.desc())
            .limit(limit)
            .offset(offset)
        )
        return [Notification.model_validate(row) for row in rows.mappings()], total or 0

    async def unread(self, tx: Transaction, user_id: int) -> int:
        """Return how many the user has not read."""
        count = select(func.count(NotificationRow.id)).where(
            NotificationRow.user_id == user_id, _UNREAD
        )
        return await tx.conn.scalar(count) or 0

    async def get(self, tx: Transaction, notification_id: int, user_id: int) -> Notification | None:
        """Return one of the user's."""
        row = await tx.conn.execute(
            select(*_COLUMNS).where(
                NotificationRow.id == notification_id, NotificationRow.user_id == user_id
            )
        )
        found = row.mappings().one_or_none()
        return None if found is None else Notification.model_validate(found)

    async def mark_read(
        self, tx: Transaction, user_id: int, notification_id: int | None = None
    ) -> int:
        """Mark one of the user's, or all, as read; return how many were not before."""
        statement = update(NotificationRow).where(NotificationRow.user_id == user_id, _UNREAD)
        if notification_id is not None:
            statement = statement.where(NotificationRow.id == notification_id)
        marked = await tx.conn.execute(statement.values(read_at=func.clock_timestamp()))
        return marked.rowcount

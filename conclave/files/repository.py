"""All SQL on files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy import delete, func, insert, or_, select, text, update

from conclave.db import Transaction
from schema.domain.conversations import ConversationKind
from schema.domain.files import FileRef, NewFile, StoredFile
from schema.tables.conversations import ConversationRow
from schema.tables.files import FileRow
from schema.tables.tasks import TaskRow

_COLUMNS = (
    FileRow.id,
    FileRow.filename,
    FileRow.content_type,
    FileRow.size_bytes,
    FileRow.sha256,
    FileRow.task_id,
    FileRow.conversation_id,
    FileRow.publication,
    FileRow.owner,
    FileRow.tags,
    FileRow.meta.label("metadata"),
    FileRow.uploaded_by_user_id,
    FileRow.uploaded_by_agent_id,
    FileRow.created_at,
)
_HOLD = text("SELECT pg_advisory_xact_lock(hashtextextended('blob ' || :sha256, 0))")


class FileRepository:
    """Rows of files. Whoever adds or removes the bytes of a content holds it first."""

    async def hold(self, tx: Transaction, sha256: str) -> None:
        """Let nobody else add or remove bytes of this content before `tx` ends."""
        await tx.conn.execute(_HOLD, {"sha256": sha256})

    async def insert(
        self, tx: Transaction, wanted: NewFile, *, sha256: str, size_bytes: int
    ) -> StoredFile:
        """Store a row; its bytes are safe already."""
        values = wanted.model_dump(mode="json")
        values["meta"] = values.pop("metadata")
        added = await tx.conn.execute(
            insert(FileRow)
            .values(**values, sha256=sha256, size_bytes=size_bytes)
            .returning(*_COLUMNS)
        )
        return StoredFile.model_validate(added.mappings().one())

    async def get(self, tx: Transaction, file_id: int, *, lock: bool = False) -> StoredFile | None:
        """Return one."""
        statement = select(*_COLUMNS).where(FileRow.id == file_id)
        if lock:
            statement = statement.with_for_update()
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else StoredFile.model_validate(row)

    async def published(
        self, tx: Transaction, conversation_id: int, publication: str
    ) -> StoredFile | None:
        """Return what a conversation handed in before."""
        row = await tx.conn.execute(
            select(*_COLUMNS).where(
                FileRow.conversation_id == conversation_id, FileRow.publication == publication
            )
        )
        found = row.mappings().one_or_none()
        return None if found is None else StoredFile.model_validate(found)

    async def list(
        self, tx: Transaction, task_id: int | None, owner: str | None, limit: int, offset: int
    ) -> tuple[Sequence[StoredFile], int]:
        """Return a page, newest first, and the number of all; `owner` sees its own besides."""
        statement = select(*_COLUMNS)
        if task_id is not None:
            statement = statement.where(FileRow.task_id == task_id)
        if owner is not None:
            statement = statement.where(or_(FileRow.owner.is_(None), FileRow.owner == owner))
        total = await tx.conn.scalar(select(func.count()).select_from(statement.subquery()))
        rows = await tx.conn.execute(
            statement.order_by(FileRow.id.desc()).limit(limit).offset(offset)
        )
        return [StoredFile.model_validate(row) for row in rows.mappings()], total or 0

    async def delete(self, tx: Transaction, file_id: int) -> None:
        """Delete a row."""
        await tx.conn.execute(delete(FileRow).where(FileRow.id == file_id))

    async def refs(self, tx: Transaction, ids: Collection[int]) -> dict[int, FileRef]:
        """Return files by their ids, those that there are."""
        rows = await tx.conn.execute(
            select(FileRow.id, FileRow.filename, FileRow.size_bytes, FileRow.content_type).where(
                FileRow.id.in_(ids)
            )
        )
        return {row["id"]: FileRef.model_validate(row) for row in rows.mappings()}

    async def public_ids(self, tx: Transaction, ids: Collection[int]) -> frozenset[int]:
        """Return which of these there are and everybody may see."""
        rows = await tx.conn.scalars(
            select(FileRow.id).where(FileRow.id.in_(ids), FileRow.owner.is_(None))
        )
        return frozenset(rows)

    async def named(self, tx: Transaction, contents: Collection[str]) -> set[str]:
        """Return which of these contents a row names."""
        rows = await tx.conn.scalars(
            select(FileRow.sha256).where(FileRow.sha256.in_(contents)).distinct()
        )
        return set(rows)

    async def older_than(self, tx: Transaction, days: int, most: int) -> list[StoredFile]:
        """Return files that were stored so many days ago or earlier, oldest first."""
        rows = await tx.conn.execute(
            select(*_COLUMNS)
            .where(FileRow.created_at < func.clock_timestamp() - timedelta(days=days))
            .order_by(FileRow.created_at)
            .limit(most)
        )
        return [StoredFile.model_validate(row) for row in rows.mappings()]

    async def has_task(self, tx: Transaction, task_id: int) -> bool:
        """Whether there is such a task."""
        found = select(TaskRow.id).where(TaskRow.id == task_id, TaskRow.deleted_at.is_(None))
        return await tx.conn.scalar(found) is not None

    async def private_owner(self, tx: Transaction, conversation_id: int) -> str | None:
        """Return who alone sees a conversation, None where everybody does."""
        row = await tx.conn.execute(
            select(ConversationRow.kind, ConversationRow.owner).where(
                ConversationRow.id == conversation_id
            )
        )
        found = row.one_or_none()
        if found is None or not ConversationKind(found.kind).is_private:
            return None
        return found.owner

    async def task_of(self, tx: Transaction, conversation_id: int) -> int | None:
        """Return the task whose transcript a conversation is."""
        return await tx.conn.scalar(
            select(TaskRow.id).where(TaskRow.conversation_id == conversation_id)
        )

    async def add_output(self, tx: Transaction, task_id: int, file_id: int) -> None:
        """Name a file among a task's output, once. Locks the task's row until `tx` ends."""
        await tx.conn.execute(
            update(TaskRow)
            .where(TaskRow.id == task_id, ~TaskRow.output_files.contains([file_id]))
            .values(
                output_files=func.array_append(TaskRow.output_files, file_id),
                updated_at=func.clock_timestamp(),
            )
        )

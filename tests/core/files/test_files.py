"""Bytes and rows of files: what crashes and callers at once leave of them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select, text

from conclave.db import Transaction
from conclave.errors import TooLarge
from conclave.files.errors import FileNotFound, FileTypeRefused
from conclave.ports.blobs import StagedBlob
from schema.domain.conversations import ConversationKind
from schema.domain.files import StoredFile
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.tools import ToolPlace
from schema.tables.files import FileRow
from tests.core.files.conftest import ADA, BOB, Shelf, one
from tests.harness.task_rows import a_conversation, a_task, output_of


class Killed(BaseException):
    """What a process that is killed does not catch."""


async def rows(shelf: Shelf) -> int:
    async with shelf.db.transaction() as tx:
        return await tx.conn.scalar(select(func.count()).select_from(FileRow)) or 0


async def test_a_kill_between_bytes_and_row_leaves_bytes_that_upkeep_removes(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
):
    async def killed(self: object, tx: Transaction, *args: object, **fields: object) -> None:
        raise Killed

    async def nothing(staged: StagedBlob, *, failed: bool) -> None:
        """A process that is dead clears nothing."""

    with monkeypatch.context() as patch:
        patch.setattr("conclave.files.repository.FileRepository.insert", killed)
        patch.setattr(shelf.files, "clear", nothing)
        with pytest.raises(Killed):
            await shelf.upload(b"lost")
    digest = hashlib.sha256(b"lost").hexdigest()
    assert (shelf.stored(), await rows(shelf)) == ([f"blobs/{digest[:2]}/{digest}"], 0)
    kept = await shelf.upload(b"kept")
    assert await shelf.upkeep.run() == 1
    assert await shelf.upkeep.run() == 0
    assert await shelf.content(kept) == b"kept"
    assert len(shelf.stored()) == 1


async def test_a_kill_while_bytes_come_in_leaves_them_for_a_day(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
):
    async def killed(staged: StagedBlob) -> None:
        raise Killed

    monkeypatch.setattr(shelf.blobs, "keep", killed)
    monkeypatch.setattr(shelf.blobs, "discard", killed)
    with pytest.raises(Killed):
        await shelf.upload()
    (left,) = shelf.stored()
    assert left.startswith("incoming/")
    assert await shelf.upkeep.run() == 0
    long_ago = time.time() - 25 * 3600
    os.utime(shelf.root / left, (long_ago, long_ago))
    assert await shelf.upkeep.run() == 1
    assert shelf.stored() == []


async def test_a_kill_between_row_and_bytes_of_a_deleted_file_leaves_bytes_for_upkeep(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
):
    file = await shelf.upload()

    async def killed(sha256: str) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shelf.files, "let_go", killed)
        with pytest.raises(Killed):
            await shelf.files.delete(file.id, ADA)
    assert (await rows(shelf), len(shelf.stored())) == (0, 1)
    assert await shelf.upkeep.run() == 1
    assert shelf.stored() == []


async def test_a_row_that_cannot_be_stored_takes_its_bytes_away(shelf: Shelf):
    async with shelf.db.transaction() as tx:
        await tx.conn.execute(text("ALTER TABLE files ADD CONSTRAINT no CHECK (filename <> 'no')"))
    try:
        same = await shelf.upload(b"same")
        for content in (b"other", b"same"):
            with pytest.raises(Exception, match="violates check constraint"):
                await shelf.upload(content, "no")
    finally:
        async with shelf.db.transaction() as tx:
            await tx.conn.execute(text("ALTER TABLE files DROP CONSTRAINT no"))
    assert await shelf.content(same) == b"same"
    assert len(shelf.stored()) == 1


async def test_an_upload_that_is_cut_leaves_nothing(shelf: Shelf):
    async def cut() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        raise ConnectionError("the client is gone")

    async def too_much() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100_000

    begun = asyncio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        begun.set()
        await asyncio.Event().wait()

    for pieces, error in ((cut(), Exception), (too_much(), TooLarge)):
        with pytest.raises(error):
            await shelf.files.upload("a", None, pieces, ADA)
    waiting = asyncio.create_task(shelf.files.upload("a", None, hanging(), ADA))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (shelf.stored(), await rows(shelf)) == ([], 0)


async def test_bytes_are_there_for_every_row_whoever_deletes_and_uploads_at_once(shelf: Shelf):
    """The same content comes and goes from all sides: rows and bytes agree in the end."""
    first = await shelf.upload()

    async def go_on(file: StoredFile) -> None:
        for _ in range(15):
            await shelf.files.delete(file.id, ADA)
            file = await shelf.upload()
            assert await shelf.content(file) == b"hello"
        await shelf.files.delete(file.id, ADA)

    others = [await shelf.upload() for _ in range(3)]
    await asyncio.gather(*(go_on(file) for file in (first, *others)))
    assert (await rows(shelf), shelf.stored()) == (0, [])


async def test_upkeep_takes_nothing_from_an_upload_under_way(shelf: Shelf):
    async def again_and_again() -> None:
        for number in range(20):
            file = await shelf.upload(str(number).encode())
            assert await shelf.content(file) == str(number).encode()

    async def clean() -> None:
        for _ in range(20):
            await shelf.upkeep.run()

    await asyncio.gather(again_and_again(), clean(), clean())
    assert (await rows(shelf), len(shelf.stored())) == (20, 20)


async def test_old_files_go_where_the_settings_say_so(shelf: Shelf):
    old, young = await shelf.upload(b"old"), await shelf.upload(b"young")
    async with shelf.db.transaction() as tx:
        await tx.conn.execute(
            text("UPDATE files SET created_at = now() - interval '8 days' WHERE id = :id"),
            {"id": old.id},
        )
    assert await shelf.upkeep.run() == 0
    shelf.settings.values["storage.auto_cleanup_days"] = 7
    assert await shelf.upkeep.run() == 1
    with pytest.raises(FileNotFound):
        await shelf.files.get(old.id, ADA)
    assert await shelf.content(young) == b"young"
    assert len(shelf.stored()) == 1
    async with shelf.db.transaction() as tx:
        told = await tx.conn.execute(
            text("SELECT actor_type FROM audit_entries WHERE action = 'file_deleted'")
        )
        assert told.scalars().all() == ["system"]


async def test_what_a_task_hands_in_twice_is_one_file_of_its_output(shelf: Shelf):
    task = await a_task(shelf.db)

    async def hand_in(content: bytes, path: str = "out/plan.md") -> StoredFile:
        return await shelf.files.publish(task.place, path, one(content), description="The plan")

    again = await asyncio.gather(*(hand_in(b"plan") for _ in range(4)))
    assert {file.id for file in again} == {again[0].id}
    (file, *_) = again
    assert (file.filename, file.content_type, file.task_id) == ("plan.md", "text/markdown", task.id)
    assert file.metadata == {"path": "out/plan.md", "description": "The plan"}
    assert (file.uploaded_by_agent_id, file.uploaded_by_user_id) == (1, None)
    assert (await shelf.files.get(file.id, BOB)).metadata == file.metadata
    changed, elsewhere = await hand_in(b"better plan"), await hand_in(b"plan", "plan.md")
    assert await output_of(shelf.db, task.id) == [file.id, changed.id, elsewhere.id]
    listed, total = await shelf.files.list(task.id, BOB, 10, 0)
    assert ([one.id for one in listed], total) == ([elsewhere.id, changed.id, file.id], 3)
    assert len(shelf.stored()) == 2
    async with shelf.db.transaction() as tx:
        refs = await shelf.files.refs(tx, [elsewhere.id, 99, file.id])
        assert [ref.model_dump() for ref in refs] == [
            {"id": found.id, "filename": "plan.md", "size_bytes": 4, "content_type": kind}
            for found in (elsewhere, file)
            for kind in ("text/markdown",)
        ]
        assert await shelf.files.exists(tx, [file.id, 99]) == {file.id}
    await shelf.files.delete(file.id, ADA)
    assert await shelf.content(elsewhere) == b"plan"


async def test_what_a_private_chat_hands_in_is_its_owners(shelf: Shelf):
    chat = await a_conversation(shelf.db, ConversationKind.CHAT, owner=ADA.key)
    place = ToolPlace(conversation_id=chat, agent_id=1)
    file = await shelf.files.publish(place, "diary.txt", one(b"dear diary"))
    assert file.owner == ADA.key
    for principal in (ADA, LOCAL_PRINCIPAL):
        assert (await shelf.files.get(file.id, principal)).id == file.id
        assert (await shelf.files.list(None, principal, 10, 0))[1] == 1
    for ask in (shelf.files.get, shelf.files.delete, shelf.files.signed, shelf.files.download):
        with pytest.raises(FileNotFound):
            await ask(file.id, BOB)
    assert await shelf.files.list(None, BOB, 10, 0) == ([], 0)
    async with shelf.db.transaction() as tx:
        assert await shelf.files.exists(tx, [file.id]) == frozenset()


async def test_the_rules_hold_for_what_agents_hand_in(shelf: Shelf):
    task = await a_task(shelf.db)
    shelf.settings.values["storage.allowed_file_types"] = "pdf"
    with pytest.raises(FileTypeRefused):
        await shelf.files.publish(task.place, "a.exe", one(b"x"))
    with pytest.raises(TooLarge):
        await shelf.files.publish(task.place, "a.pdf", one(b"x" * (1024 * 1024 + 1)))
    assert (await output_of(shelf.db, task.id), shelf.stored()) == ([], [])

"""`publish_file`: a file of the workspace becomes a file that people can fetch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conclave.adapters.sandbox.host import HostSandbox
from conclave.adapters.store.directory import DirectoryBlobs
from conclave.auditing import AuditLog
from conclave.db import Database
from conclave.files.service import FileService
from conclave.files.signing import DownloadSigner
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.tools import ToolPlace
from tests.core.files.conftest import Values
from tests.core.tools.conftest import Bench, bench_at
from tests.harness.task_rows import a_task, output_of


@pytest.fixture
def files(clean_database: Database, tmp_path: Path) -> FileService:
    settings = Values()
    settings.values["storage.max_file_size_mb"] = 20
    blobs = DirectoryBlobs(tmp_path / "files")
    return FileService(clean_database, AuditLog(), blobs, settings, DownloadSigner(None))


@pytest.fixture
async def bench(
    directory: Path, sandbox: HostSandbox, files: FileService, clean_database: Database
) -> Bench:
    """A task's workspace."""
    bench = bench_at(directory, sandbox, files)
    task = await a_task(clean_database)
    bench.place = task.place
    (directory / "workspaces" / f"chat-{task.conversation_id}" / "tree").mkdir(parents=True)
    return bench


def tree(bench: Bench) -> Path:
    return bench.directory / "workspaces" / f"chat-{bench.place.conversation_id}" / "tree"


async def content(files: FileService, file_id: int) -> bytes:
    file = await files.download(file_id, LOCAL_PRINCIPAL)
    return b"".join([piece async for piece in files.bytes_of(file, 0, file.size_bytes)])


async def test_a_file_larger_than_any_tool_reads_is_handed_in(bench: Bench, files: FileService):
    data = os.urandom(7 * 1024 * 1024)
    (tree(bench) / "out").mkdir()
    (tree(bench) / "out" / "film.mp4").write_bytes(data)
    said = await bench.said("publish_file", path="/workspace/out/film.mp4", description="A film")
    assert said == f"Handed out/film.mp4 in as file 1: film.mp4 ({len(data)} bytes)."
    assert await content(files, 1) == data
    stored = await files.get(1, LOCAL_PRINCIPAL)
    assert (stored.content_type, stored.metadata["description"]) == ("video/mp4", "A film")


async def test_a_call_that_runs_again_hands_in_once(
    bench: Bench, files: FileService, clean_database: Database
):
    (tree(bench) / "a.txt").write_text("one")
    call = {"path": "a.txt", "filename": "../../Answer.txt"}
    first = await bench.said("publish_file", **call)
    assert await bench.said("publish_file", **call) == first
    assert "file 1: Answer.txt" in first
    (tree(bench) / "a.txt").write_text("two")
    assert "file 2: Answer.txt" in await bench.said("publish_file", **call)
    assert bench.place.task_id is not None
    assert await output_of(clean_database, bench.place.task_id) == [1, 2]
    assert await content(files, 1) == b"one"


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", ".git/config", "link", "gone", "dir"])
async def test_what_is_no_file_of_the_workspace_is_not_handed_in(
    bench: Bench, files: FileService, path: str
):
    os.symlink("/etc/passwd", tree(bench) / "link")
    (tree(bench) / "dir").mkdir()
    assert await bench.refused("publish_file", path=path)
    assert await files.list(None, LOCAL_PRINCIPAL, 10, 0) == ([], 0)


async def test_a_chat_hands_in_without_a_task(bench: Bench, files: FileService):
    bench.place = ToolPlace(conversation_id=7, agent_id=1)
    bench.write("a.txt", "one")
    assert "file 1" in await bench.said("publish_file", path="a.txt")
    assert (await files.get(1, LOCAL_PRINCIPAL)).task_id is None

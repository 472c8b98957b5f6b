"""The path guard: nothing outside a workspace is read or touched."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conclave.adapters.workspace import descriptors
from conclave.adapters.workspace.descriptors import has_openat2, walk_down
from conclave.adapters.workspace.errors import (
    FileConflict,
    FileNotThere,
    FileTooLarge,
    PathRefused,
)
from conclave.adapters.workspace.files import DirectoryFiles
from conclave.adapters.workspace.listing import list_tree
from conclave.adapters.workspace.paths import parse_path
from conclave.adapters.workspace.store import DirectoryStore
from conclave.errors import ConclaveError
from schema.domain.workspaces import EntryType
from tests.adapters.yard import LIMIT, Yard


def test_this_kernel_has_the_fast_path():
    assert has_openat2()


OUTSIDE = [
    "..",
    "../outside/file",
    "a/../../outside/file",
    "a/..",
    "/etc/passwd",
    "//etc/passwd",
    "out/file",
    "out",
    "link",
    "nul\x00",
    "\ud800",
    "x" * 256,
    "/".join(["d"] * 201),
    "a/" * 2100,
]
GIT = [
    ".git",
    ".git/config",
    ".GIT/config",
    ".Git",
    "sub/.git/hooks/x",
    ".git./config",
    ".git /config",
    ".git ... ",
    "git~1/config",
    "GIT~1",
    ".g\u200cit/config",
    ".git::$INDEX_ALLOCATION/config",
    "a\\.git\\config",
]


@pytest.mark.parametrize("path", [*OUTSIDE, *GIT], ids=lambda path: ascii(path)[:30])
def test_a_path_that_leaves_the_workspace_is_refused_by_every_operation(yard: Yard, path: str):
    (yard.root / "a").mkdir()
    (yard.root / "mine").write_text("mine")
    (yard.root / "out").symlink_to(yard.outside)
    (yard.root / "link").symlink_to(yard.outside / "file")
    before = sorted(str(found) for found in yard.root.rglob("*"))
    operations: list[Callable[[], object]] = [
        lambda: yard.tree.read(path, limit=LIMIT),
        lambda: yard.tree.write(path, b"mine", limit=LIMIT),
        lambda: yard.tree.delete(path, recursive=True),
        lambda: yard.tree.delete(path, recursive=False),
        lambda: yard.tree.rename(path, "new"),
        lambda: yard.tree.rename("mine", f"{path}/new"),
        lambda: list_tree(yard.tree, path, recursive=True, limit=9),
    ]
    for operation in operations:
        with pytest.raises(ConclaveError) as refused:
            operation()
        # A link to a file, or one on the way to nothing, is the same refusal.
        assert isinstance(refused.value, PathRefused), refused.value
    assert sorted(str(found) for found in yard.root.rglob("*")) == before
    yard.assert_outside_is_whole()


@pytest.mark.parametrize("path", ["..", "out/new", "link", ".git/new"])
def test_a_rename_does_not_lead_outside(yard: Yard, path: str):
    (yard.root / "mine").write_text("mine")
    (yard.root / "out").symlink_to(yard.outside)
    (yard.root / "link").symlink_to(yard.outside / "file")
    with pytest.raises((PathRefused, FileConflict)):
        yard.tree.rename("mine", path)
    assert (yard.root / "mine").read_text() == "mine"
    yard.assert_outside_is_whole()


@pytest.mark.parametrize("path", ["gitignore", ".gitignore", ".github/x", "git", "agit", ".gitx"])
def test_names_that_only_resemble_git_are_plain(path: str):
    assert parse_path(path)


def test_a_link_that_stays_inside_is_not_followed_either(yard: Yard):
    (yard.root / "real").mkdir()
    (yard.root / "real" / "file").write_text("x")
    (yard.root / "alias").symlink_to("real")
    with pytest.raises(PathRefused, match="alias is a symbolic link"):
        yard.tree.read("alias/file", limit=LIMIT)
    assert yard.tree.stat("alias").type is EntryType.SYMLINK
    assert yard.names() == ["alias", "real", "real/file"]


@pytest.mark.parametrize("flat", [True, False])
def test_devices_pipes_and_sockets_are_refused_at_once(yard: Yard, flat: bool):
    prefix = "" if flat else "deep/"
    (yard.root / "deep").mkdir()
    os.mkfifo(yard.root / f"{prefix}pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(yard.root / prefix, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{directory}/socket")
        os.close(directory)
        for name in ("pipe", "socket"):
            started = time.monotonic()
            with pytest.raises(PathRefused, match="neither a file nor a directory"):
                yard.tree.read(prefix + name, limit=LIMIT)
            with pytest.raises(PathRefused):
                yard.tree.write(prefix + name, b"x", limit=LIMIT)
            with pytest.raises(PathRefused):
                yard.tree.delete(prefix + name, recursive=False)
            assert time.monotonic() - started < 5
            assert yard.tree.stat(prefix + name).type is EntryType.OTHER


def test_what_is_written_is_read_back_with_its_hash(yard: Yard):
    written = yard.tree.write("./a//b/c.txt", "grüße".encode(), limit=LIMIT)
    assert written.path == "a/b/c.txt"
    assert written.created
    assert written.size == 7
    read = yard.tree.read("a/b/c.txt", limit=LIMIT)
    assert read.text == "grüße"
    assert read.sha256 == written.sha256 == hashlib.sha256("grüße".encode()).hexdigest()
    assert not yard.tree.write("a/b/c.txt", b"\x00", limit=LIMIT).created
    assert yard.tree.read("a/b/c.txt", limit=LIMIT).text is None
    assert yard.tree.write("latin", b"\xe9", limit=LIMIT).created
    assert yard.tree.read("latin", limit=LIMIT).text is None


def test_a_replaced_file_keeps_its_permissions_but_no_set_user_id(yard: Yard):
    file = yard.root / "run.sh"
    file.write_text("old")
    file.chmod(0o4750)
    yard.tree.write("run.sh", b"new", limit=LIMIT)
    assert stat.S_IMODE(file.stat().st_mode) == 0o750
    yard.tree.write("fresh", b"new", limit=LIMIT)
    assert stat.S_IMODE((yard.root / "fresh").stat().st_mode) == 0o644
    assert list(yard.root.glob(".conclave*")) == []


def test_a_replaced_file_is_never_seen_in_part(yard: Yard):
    big = b"x" * 200_000
    yard.tree.write("file", big, limit=10**6)
    torn: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            size = len((yard.root / "file").read_bytes())
            if size != len(big):
                torn.append(size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(200):
        yard.tree.write("file", big, limit=10**6)
    stop.set()
    watcher.join()
    assert torn == []


def test_an_edit_of_what_has_changed_conflicts(yard: Yard):
    first = yard.tree.write("file", b"one", limit=LIMIT)
    yard.tree.write("file", b"two", limit=LIMIT, expected_sha256=first.sha256)
    with pytest.raises(FileConflict, match="has changed"):
        yard.tree.write("file", b"three", limit=LIMIT, expected_sha256=first.sha256)
    assert yard.tree.read("file", limit=LIMIT).data == b"two"
    with pytest.raises(FileNotThere):
        yard.tree.write("gone/file", b"x", limit=LIMIT, expected_sha256=first.sha256)
    assert yard.names() == ["file"]


def test_of_many_edits_at_once_none_is_lost(yard: Yard):
    yard.tree.write("count", b"0", limit=LIMIT)

    def add() -> None:
        done = 0
        while done < 25:
            seen = yard.tree.read("count", limit=LIMIT)
            try:
                more = str(int(seen.data) + 1).encode()
                yard.tree.write("count", more, limit=LIMIT, expected_sha256=seen.sha256)
            except FileConflict:
                continue
            done += 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert yard.tree.read("count", limit=LIMIT).data == b"100"


def test_sizes_are_limited_both_ways(yard: Yard):
    yard.tree.write("file", b"x" * LIMIT, limit=LIMIT)
    assert yard.tree.read("file", limit=LIMIT).size == LIMIT
    with pytest.raises(FileTooLarge):
        yard.tree.write("file", b"x" * (LIMIT + 1), limit=LIMIT)
    (yard.root / "big").write_bytes(b"x" * (LIMIT + 1))
    with pytest.raises(FileTooLarge):
        yard.tree.read("big", limit=LIMIT)


def test_a_directory_is_not_a_file(yard: Yard):
    yard.tree.write("d/f", b"x", limit=LIMIT)
    for refused in (
        lambda: yard.tree.read("d", limit=LIMIT),
        lambda: yard.tree.write("d", b"x", limit=LIMIT),
        lambda: yard.tree.write("d/f/g", b"x", limit=LIMIT),
        lambda: yard.tree.read("d/f/g", limit=LIMIT),
    ):
        with pytest.raises(FileConflict):
            refused()
    for missing in ("nothing", "d/nothing", "nothing/at/all"):
        with pytest.raises(FileNotThere):
            yard.tree.read(missing, limit=LIMIT)
        with pytest.raises(FileNotThere):
            yard.tree.delete(missing, recursive=True)


def test_a_full_directory_is_deleted_only_where_asked(yard: Yard):
    yard.tree.write("d/e/f", b"x", limit=LIMIT)
    (yard.root / "d" / "out").symlink_to(yard.outside)
    (yard.root / "d" / "shut").mkdir(mode=0)
    with pytest.raises(FileConflict):
        yard.tree.delete("d", recursive=False)
    yard.tree.delete("d", recursive=True)
    assert yard.names() == []
    assert list((yard.home / "deleted").iterdir()) == []
    yard.assert_outside_is_whole()
    (yard.root / "empty").mkdir()
    yard.tree.delete("empty", recursive=False)
    with pytest.raises(PathRefused):
        yard.tree.delete("", recursive=True)


def test_no_depth_is_too_deep_to_delete(yard: Yard):
    (yard.root / "top").mkdir()
    current = os.open(yard.root / "top", os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deeper", dir_fd=current)
        below = os.open("deeper", os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = below
    os.close(current)
    assert len(yard.names()) == 99
    yard.tree.delete("top", recursive=True)
    assert yard.names() == []
    assert list((yard.home / "deleted").iterdir()) == []


def test_a_rename_makes_directories_and_takes_no_taken_name(yard: Yard):
    yard.tree.write("a", b"a", limit=LIMIT)
    yard.tree.write("b", b"bb", limit=LIMIT)
    moved = yard.tree.rename("a", "new/place/a")
    assert (moved.path, moved.size) == ("new/place/a", 1)
    for taken in ("b", "new", "new/place"):
        with pytest.raises(FileConflict, match="already exists"):
            yard.tree.rename("new/place/a", taken)
    with pytest.raises(FileNotThere):
        yard.tree.rename("a", "elsewhere/a")
    with pytest.raises(FileConflict, match="into itself"):
        yard.tree.rename("new", "new/place/new")
    assert yard.names() == ["b", "new", "new/place", "new/place/a"]
    assert yard.tree.rename("new", "old").type is EntryType.DIRECTORY
    assert yard.tree.read("old/place/a", limit=LIMIT).data == b"a"


def test_a_rename_without_the_kernels_help_takes_no_taken_name(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
):
    class Older:
        """A C library without renameat2."""

    monkeypatch.setattr(descriptors, "_LIBC", Older())
    yard.tree._opener = walk_down
    yard.tree.write("a", b"a", limit=LIMIT)
    yard.tree.write("b", b"b", limit=LIMIT)
    with pytest.raises(FileConflict):
        yard.tree.rename("a", "b")
    yard.tree.rename("a", "c")
    assert yard.names() == ["b", "c"]


def test_a_listing_is_limited_and_shows_no_git_and_nothing_half_written(yard: Yard):
    for name in ("b", "a/z", "a/y/x"):
        yard.tree.write(name, b"x", limit=LIMIT)
    (yard.root / ".git").write_text("gitdir: /somewhere")
    (yard.root / "a" / ".git").mkdir()
    (yard.root / ".conclave-0123~").write_text("half")
    (yard.root / "a" / os.fsdecode(b"latin-\xe9")).write_text("x")
    assert yard.names() == ["a", "a/latin-\ufffd", "a/y", "a/y/x", "a/z", "b"]
    flat = list_tree(yard.tree, "a", recursive=False, limit=10)
    assert [entry.name for entry in flat.entries] == ["latin-\ufffd", "y", "z"]
    assert [entry.size for entry in flat.entries] == [1, 0, 1]
    cut = list_tree(yard.tree, "", recursive=True, limit=2)
    assert cut.truncated
    assert [entry.path for entry in cut.entries] == ["a", "b"]
    with pytest.raises(FileConflict):
        list_tree(yard.tree, "b", recursive=False, limit=2)


async def test_failures_of_the_disk_are_told_without_paths_of_the_machine(yard: Yard):
    files = DirectoryFiles(yard.tree)
    await files.write("a/b", b"x")
    assert (await files.stat("a/b")).size == 1
    assert (await files.rename("a/b", "c")).path == "c"
    assert [entry.path for entry in (await files.list(recursive=True)).entries] == ["a", "c"]
    await files.delete("a")
    yard.root.joinpath("c").unlink()
    yard.root.rmdir()
    with pytest.raises(FileNotThere) as missing:
        await files.read("c")
    assert str(yard.root) not in missing.value.message


async def test_a_store_makes_installs_and_removes_whole_workspaces(tmp_path: Path):
    store = DirectoryStore(tmp_path / "workspaces", lambda home: None)  # pyright: ignore[reportArgumentType]
    scratch = await store.make("chat-1")
    await scratch.files.write("f", b"x")
    assert await (await store.make("chat-1")).files.read("f")
    first, second = await store.stage("7"), await store.stage("7")
    assert not first.path.exists(), "a later attempt removes what an earlier one left"
    await second.files.write("f", b"second")
    third = await store.stage("77")
    await store.install(second, "7")
    late = await store.stage("7")
    await late.files.write("f", b"late")
    assert (await store.workspace("7").files.read("f")).data == b"second"
    await store.install(late, "7")
    assert (await store.workspace("7").files.read("f")).data == b"late"
    assert third.path.exists()
    await store.remove("7")
    await store.remove("7")
    await store.discard(third)
    left = sorted(path.name for path in (tmp_path / "workspaces").iterdir())
    assert left == [".deleted", ".locks", "chat-1"]
    assert list((tmp_path / "workspaces" / ".deleted").iterdir()) == []
    for name in ("", "..", "a/b", ".deleted", "A"):
        with pytest.raises(ValueError):
            store.workspace(name)

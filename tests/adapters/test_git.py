"""Git over real repositories: what each operation does, and what it leaves alone."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from conclave.adapters.git.errors import (
    GitBusy,
    GitConflict,
    GitMissing,
    GitOutputTooLarge,
    NoSuchRef,
    NotARepository,
    NothingStaged,
    RemoteRefused,
)
from conclave.adapters.git.program import Call, find_git
from conclave.adapters.git.repository import GitRepository
from conclave.adapters.workspace.errors import PathRefused
from conclave.errors import Invalid
from schema.domain.repositories import CommitAuthor, RenamedFile
from tests.adapters.checkout import Checkout, hear_nothing
from tests.fakes.git_server import GitServer, Origin, git
from tests.waiting import until


async def test_git_is_there_and_new_enough():
    path, version = find_git()
    assert path
    assert version >= (2, 38)


async def test_a_missing_or_old_git_is_named_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    checkout = Checkout(tmp_path / "home")
    with pytest.raises(GitMissing, match="`git` is not installed"):
        await checkout.repository.init("main")
    (tmp_path / "git").write_text("#!/bin/sh\necho git version 2.30.1\n")
    (tmp_path / "git").chmod(0o755)
    with pytest.raises(GitMissing, match=r"2\.30\.1 is too old: 2\.38"):
        await checkout.repository.init("main")


async def test_an_empty_repository_lies_outside_its_files(checkout: Checkout):
    assert not await checkout.repository.exists()
    with pytest.raises(NotARepository):
        await checkout.repository.status()
    await checkout.repository.init("trunk")
    assert await checkout.repository.exists()
    assert list(checkout.tree.iterdir()) == []
    status = await checkout.repository.status()
    assert (status.branch, status.head, status.staged) == ("trunk", None, [])
    assert await checkout.repository.commits(10) == []
    assert await checkout.repository.commits(10, "trunk") == []
    assert await checkout.repository.branches() == []


async def test_a_clone_has_files_branch_and_progress(checkout: Checkout, origin: Origin):
    git(origin.other, "push", "-q", "origin", "HEAD:refs/heads/side/way")
    lines: list[str] = []
    branch = await checkout.repository.clone(origin.url, branch=None, progress=lines.append)
    assert branch == "main"
    assert (checkout.tree / "dir" / "b").read_text() == "two\n"
    assert not (checkout.tree / ".git").exists()
    assert any("objects" in line for line in lines)
    status = await checkout.repository.status()
    assert (status.branch, status.ahead, status.behind) == ("main", 0, 0)
    named = {
        (one.name, one.is_current, one.is_remote) for one in await checkout.repository.branches()
    }
    assert named == {
        ("main", True, False),
        ("origin/main", False, True),
        ("origin/side/way", False, True),
    }


async def test_a_clone_takes_the_branch_asked_for_and_only_that_deep(
    tmp_path: Path, origin: Origin
):
    origin.commit({"a": "more"})
    git(origin.other, "push", "-q", "origin", "HEAD:refs/heads/side")
    shallow = Checkout(tmp_path / "shallow")
    taken = await shallow.repository.clone(
        origin.url, branch="side", progress=hear_nothing, depth=1
    )
    assert taken == "side"
    assert len(await shallow.repository.commits(10)) == 1
    with pytest.raises(RemoteRefused, match="no branch nowhere"):
        await Checkout(tmp_path / "none").clone(origin.url, "nowhere")


async def test_a_clone_of_an_empty_remote_is_an_empty_repository(tmp_path: Path):
    empty = Origin(tmp_path / "remote")
    checkout = Checkout(tmp_path / "home")
    assert await checkout.clone(empty.url) is None
    assert (await checkout.repository.status()).branch == "main"
    await checkout.commit(a="1")
    pushed = await checkout.repository.push()
    assert (pushed.count, pushed.branch) == (1, "main")
    assert git(empty.bare, "rev-parse", "main") == pushed.head


async def test_status_tells_every_kind_of_change(checkout: Checkout, origin: Origin):
    origin.commit({"gone": "1\n", "kept": "2\n", "away": "3\n" * 9, "space name": "4\n"})
    await checkout.clone(origin.url)
    await checkout.commit(own="x")
    origin.commit({"theirs": "x"})
    (checkout.tree / "gone").unlink()
    (checkout.tree / "away").rename(checkout.tree / "moved ünd")
    checkout.write(kept="changed\n", new="n\n", **{"space name": "staged\n"})
    await checkout.repository.stage(["away", "moved ünd", "space name"])
    status = await checkout.repository.status()
    assert status.ahead == 1
    assert status.modified == ["kept"]
    assert status.deleted == ["gone"]
    assert status.untracked == ["new"]
    assert status.staged == ["moved ünd", "space name"]
    assert status.renamed == [RenamedFile(before="away", after="moved ünd")]
    assert status.conflicted == []


async def test_commits_carry_author_message_and_parents(checkout: Checkout, origin: Origin):
    await checkout.clone(origin.url)
    checkout.write(a="two\n")
    await checkout.repository.stage(["a"])
    author = CommitAuthor(name="Zoë Ünal", email="zoe@example.org")
    message = "# Change a\n\nBecause of \x1f and ü.\n"
    made = await checkout.repository.commit(message, author)
    assert made.message == message.strip()
    assert (made.author, made.author_email) == ("Zoë Ünal", "zoe@example.org")
    [newest, first] = await checkout.repository.commits(10)
    assert newest == made
    assert newest.parents == [first.hash]
    assert newest.short_hash == newest.hash[: len(newest.short_hash)]
    assert [one.hash for one in await checkout.repository.commits(1)] == [made.hash]
    assert [one.hash for one in await checkout.repository.commits(9, "origin/main")] == [first.hash]
    with pytest.raises(NoSuchRef):
        await checkout.repository.commits(1, "nowhere")


async def test_a_commit_needs_something_staged(checkout: Checkout, origin: Origin):
    await checkout.clone(origin.url)
    checkout.write(a="changed")
    with pytest.raises(NothingStaged):
        await checkout.repository.commit("Nothing")
    await checkout.repository.stage(["a"])
    await checkout.repository.unstage(["a"])
    with pytest.raises(NothingStaged):
        await checkout.repository.commit("Nothing")
    assert (await checkout.repository.status()).modified == ["a"]


async def test_files_are_staged_and_unstaged_before_the_first_commit(checkout: Checkout):
    await checkout.repository.init("main")
    with pytest.raises(NothingStaged):
        await checkout.repository.commit("Nothing")
    checkout.write(a="1", b="2")
    await checkout.repository.stage(["a", "b"])
    await checkout.repository.unstage(["b"])
    status = await checkout.repository.status()
    assert (status.staged, status.untracked) == (["a"], ["b"])
    assert (await checkout.repository.commit("First")).parents == []


@pytest.mark.parametrize("path", ["*", ":/", ":(top)a", "nothing", "--all", "-A"])
async def test_only_names_are_staged_never_patterns_or_options(
    checkout: Checkout, origin: Origin, path: str
):
    await checkout.clone(origin.url)
    checkout.write(a="changed", new="n")
    with pytest.raises(NoSuchRef):
        await checkout.repository.stage([path])
    assert (await checkout.repository.status()).staged == []
    checkout.write(**{"*": "a star"})
    await checkout.repository.stage(["*"])
    assert (await checkout.repository.status()).staged == ["*"]


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", ".git/config", "out/file", ""])
async def test_paths_outside_are_refused(
    checkout: Checkout, origin: Origin, tmp_path: Path, path: str
):
    await checkout.clone(origin.url)
    (tmp_path / "file").write_text("outside")
    (checkout.tree / "out").symlink_to(tmp_path)
    with pytest.raises(PathRefused):
        await checkout.repository.stage([path])
    if path != "out/file":
        with pytest.raises(PathRefused):
            await checkout.repository.diff(path)
    assert (await checkout.repository.status()).staged == []


async def test_diffs_count_what_they_show(checkout: Checkout, origin: Origin):
    await checkout.clone(origin.url)
    checkout.write(a="one\n++ more\n", **{"dir/b": "2\n"})
    (checkout.tree / "bin").write_bytes(b"\x00\x01")
    await checkout.repository.stage(["dir/b", "bin"])
    work = await checkout.repository.diff()
    assert (work.additions, work.deletions) == (1, 0)
    assert "+++ more" in work.text
    staged = await checkout.repository.diff(staged=True)
    assert (staged.additions, staged.deletions) == (1, 1)
    assert "Binary files" in staged.text
    assert (await checkout.repository.diff("dir/b", staged=True)).deletions == 1
    assert (await checkout.repository.diff("dir/b")).text == ""


async def test_branches_are_made_and_switched_unless_changes_would_be_lost(
    checkout: Checkout, origin: Origin
):
    await checkout.clone(origin.url)
    await checkout.repository.checkout("feature/x", create=True)
    await checkout.commit(a="feature\n")
    await checkout.repository.checkout("main")
    assert (checkout.tree / "a").read_text() == "one\n"
    checkout.write(a="dirty\n")
    with pytest.raises(GitConflict, match="overwritten by checkout"):
        await checkout.repository.checkout("feature/x")
    assert (checkout.tree / "a").read_text() == "dirty\n"
    with pytest.raises(GitConflict, match="already exists"):
        await checkout.repository.checkout("feature/x", create=True)
    with pytest.raises(NoSuchRef):
        await checkout.repository.checkout("nowhere")
    assert (await checkout.repository.status()).branch == "main"


async def test_a_branch_of_the_remote_is_followed_when_switched_to(
    checkout: Checkout, origin: Origin
):
    git(origin.other, "push", "-q", "origin", "HEAD:refs/heads/side")
    await checkout.clone(origin.url)
    await checkout.repository.checkout("side")
    await checkout.commit(a="2")
    status = await checkout.repository.status()
    assert (status.branch, status.ahead) == ("side", 1)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-b",
        "--orphan",
        "a..b",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "x?",
        "x*",
        "[x",
        "a\\b",
        ".a",
        "a/.b",
        "a/",
        "/a",
        "a//b",
        "a.lock",
        "a.lock/b",
        "a.",
        "@",
        "HEAD",
        "a@{1}",
        "a\x7f",
        "x" * 201,
    ],
)
async def test_names_that_no_branch_can_have_are_refused(checkout: Checkout, name: str):
    await checkout.repository.init("main")
    for refused in (
        checkout.repository.checkout(name, create=True),
        checkout.repository.commits(1, name),
        checkout.repository.push(branch=name),
        checkout.repository.pull(branch=name),
    ):
        with pytest.raises(Invalid) as error:
            await refused
        assert error.value.field == "branch"


async def test_operations_at_once_take_turns(checkout: Checkout, origin: Origin):
    await checkout.clone(origin.url)
    for n in range(8):
        checkout.write(**{f"f{n}": str(n)})
    other = GitRepository(checkout.home, checkout.program, checkout.remotes)
    await asyncio.gather(
        *((checkout.repository, other)[n % 2].stage([f"f{n}"]) for n in range(8)),
        *(checkout.repository.status() for _ in range(4)),
    )
    assert len((await checkout.repository.status()).staged) == 8


async def test_lock_files_that_a_killed_git_left_are_in_nobodys_way(
    checkout: Checkout, origin: Origin
):
    await checkout.clone(origin.url)
    for left in ("index.lock", "HEAD.lock", "refs/heads/main.lock"):
        (checkout.git_dir / left).write_text("")
    assert await checkout.commit(a="2")


async def test_a_cancelled_operation_leaves_no_process(
    tmp_path: Path, checkout: Checkout, origin: Origin
):
    with GitServer(origin.bare.parent) as server:
        server.gate.clear()
        clone = asyncio.create_task(checkout.clone(server.url()))
        await until(lambda: server.requests, what="the clone's first request")
        clone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await clone
        assert processes_on(tmp_path) == []


def processes_on(place: Path) -> list[Path]:
    """Return the processes whose command line names a place."""
    found: list[Path] = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(place).encode() in cmdline.read_bytes():
                found.append(cmdline)
    return found


async def test_time_and_output_are_limited(checkout: Checkout, origin: Origin):
    await checkout.clone(origin.url)
    call = Call(("log",), checkout.git_dir, checkout.tree, most=10)
    with pytest.raises(GitOutputTooLarge):
        await checkout.program.run(call)
    with GitServer(origin.bare.parent) as server:
        server.gate.clear()
        config = await checkout.remotes.settings(server.url(), field="x")
        asks = ("ls-remote", "--", server.url())
        with pytest.raises(GitBusy, match="longer than 0"):
            await checkout.program.run(
                Call(asks, checkout.git_dir, checkout.tree, timeout=0.3, config=config)
            )

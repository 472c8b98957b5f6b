"""The git tools over real repositories."""

from __future__ import annotations

from pathlib import Path

from tests.core.tools.conftest import Bench
from tests.fakes.git_server import GitServer, Origin


async def test_a_scratch_workspace_gets_a_repository_and_a_history(bench: Bench):
    assert "not a git repository" in await bench.refused("git_status")
    assert "Made an empty repository" in await bench.said("git_init")
    assert "already" in await bench.said("git_init")
    bench.write("a.txt", "one\n")
    bench.write("d/b.txt", "two\n")
    assert "No commits yet" in await bench.said("git_status")
    added = await bench.said("git_add")
    assert added == await bench.said("git_add", paths=["a.txt", "d"])
    assert "staged:\n  a.txt\n  d/b.txt" in added
    assert "+one" in await bench.said("git_diff", staged=True)
    assert (await bench.said("git_commit", message="First\n\nWhy.")).endswith(": First")
    assert "Nothing is staged" in await bench.refused("git_commit", message="Again")
    assert "Nothing has changed" in await bench.said("git_status")
    assert (await bench.said("git_log")).endswith("Conclave: First")


async def test_branches_are_made_and_switched(bench: Bench):
    await bench.said("git_init")
    bench.write("a.txt", "one\n")
    await bench.said("git_add")
    await bench.said("git_commit", message="First")
    assert await bench.said("git_checkout", branch="work", create=True) == "On branch work."
    assert "already" in await bench.said("git_checkout", branch="work", create=True)
    assert await bench.said("git_checkout", branch="work") == "On branch work."
    assert await bench.said("git_branch") == "  main\n* work"
    assert "already exists" in await bench.refused("git_checkout", branch="main", create=True)
    assert "not found" in await bench.refused("git_checkout", branch="nowhere")


async def test_deleted_files_are_staged_with_the_rest(bench: Bench):
    await bench.said("git_init")
    bench.write("a.txt", "one\n").unlink()
    assert "nothing to stage" in await bench.said("git_add")
    bench.write("a.txt", "one\n")
    await bench.said("git_add")
    await bench.said("git_commit", message="First")
    await bench.said("delete_file", path="a.txt")
    assert "staged:\n  a.txt" in await bench.said("git_add", paths=["."])


async def test_commits_go_to_a_remote_and_come_from_it(bench: Bench, tmp_path: Path):
    origin = Origin(tmp_path / "remote")
    origin.commit({"a.txt": "one\n"}, "First")
    repository = (await bench.workspace()).repository
    with GitServer(origin.bare.parent) as server:
        await repository.clone(server.url(), branch=None, progress=lambda _: None)
        origin.commit({"b.txt": "two\n"}, "Second")
        assert await bench.said("git_pull") == "Pulled 1 commit from origin/main."
        assert bench.read("b.txt") == "two\n"
        assert await bench.said("git_push") == "Pushed 0 commits to origin/main."
        bench.write("c.txt", "three\n")
        await bench.said("git_add")
        await bench.said("git_commit", message="Third")
        assert await bench.refused("git_push")  # a plain file server takes nothing
        assert "1 ahead of its remote" in await bench.said("git_status")
        server.fail = [404] * 5
        assert await bench.refused("git_pull")


async def test_paths_are_judged(bench: Bench):
    await bench.said("git_init")
    assert "leaves the workspace" in await bench.refused("git_add", paths=["../x"])
    assert "leaves the workspace" in await bench.refused("git_diff", path="../x")

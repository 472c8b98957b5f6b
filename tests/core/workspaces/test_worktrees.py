"""Tasks of a project: each has files and a branch of its own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from sqlalchemy import update

from conclave.adapters.git.branches import BranchedRepository
from conclave.adapters.git.errors import GitBusy, NotARepository
from conclave.errors import NotFound
from schema.domain.conversations import ConversationKind
from schema.domain.tools import ToolPlace
from schema.tables.conversations import ConversationRow
from schema.tables.projects import ProjectRow
from schema.tables.tasks import TaskRow
from tests.core.workspaces.conftest import Forge
from tests.fakes.git_server import Origin
from tests.harness.task_rows import a_conversation, a_task, set_task


class Killed(BaseException):
    """What a process that is killed does not catch."""


async def test_two_tasks_change_the_same_file_at_once_and_do_not_see_each_other(forge: Forge):
    project = await forge.project({"a.txt": "one\n", "b.txt": "two\n"})
    tasks = [await forge.task(project) for _ in range(2)]

    async def work(number: int) -> None:
        task = tasks[number]
        for turn in range(3):
            await forge.change(task, "a.txt", f"task {number}, turn {turn}\n")
            said = await forge.said(task, "read_file", path="a.txt")
            assert f"task {number}, turn {turn}" in said

    await asyncio.gather(work(0), work(1))
    for number, task in enumerate(tasks):
        branch = f"conclave/task-{task.id}"
        assert forge.git(project, "show", f"{branch}:a.txt") == f"task {number}, turn 2"
        assert forge.git(project, "show", f"{branch}:b.txt") == "two"
        assert forge.git(project, "rev-list", "--count", f"trunk..{branch}") == "3"
        branches = await forge.said(task, "git_branch")
        assert branches == f"* {branch}"
        assert await forge.said(task, "git_status") == f"On branch {branch}\nNothing has changed"
    assert forge.tree(project).joinpath("a.txt").read_text() == "one\n"
    assert forge.git(project, "rev-parse", "--abbrev-ref", "HEAD") == "trunk"
    assert forge.git(project, "fsck", "--strict") == ""


async def test_people_and_chats_of_the_project_see_the_branch_and_may_merge_it(forge: Forge):
    project = await forge.project({"a.txt": "one\n"})
    task = await forge.task(project)
    await forge.change(task, "a.txt", "better\n")
    _, checkout = await forge.workspaces.open(project)
    names = [branch.name for branch in await checkout.repository.branches()]
    assert names == [f"conclave/task-{task.id}", "trunk"]
    (commit, _) = await checkout.repository.commits(5, f"conclave/task-{task.id}")
    assert commit.message.strip() == "Change a.txt"
    work_tree = f"--work-tree={forge.tree(project)}"
    forge.git(project, work_tree, "merge", "-q", f"conclave/task-{task.id}")
    assert forge.tree(project).joinpath("a.txt").read_text() == "better\n"
    later = await forge.task(project)
    assert "better" in await forge.said(later, "read_file", path="a.txt")


async def test_a_task_begins_where_the_default_branch_is_and_not_what_is_checked_out(forge: Forge):
    project = await forge.project({"a.txt": "one\n"})
    _, checkout = await forge.workspaces.open(project)
    await checkout.repository.checkout("aside", create=True)
    await checkout.files.write("a.txt", b"aside\n")
    await checkout.repository.stage(["a.txt"])
    await checkout.repository.commit("Aside")
    await checkout.files.write("a.txt", b"not committed\n")
    task = await forge.task(project)
    assert "one" in await forge.said(task, "read_file", path="a.txt")
    await forge.change(task, "b.txt", "new\n")
    assert forge.git(project, "rev-list", "--count", "trunk..conclave/task-1") == "1"
    assert forge.tree(project).joinpath("a.txt").read_text() == "not committed\n"


async def test_a_task_of_an_empty_project_makes_the_first_commit(forge: Forge):
    project = await forge.project()
    task = await forge.task(project)
    assert "No commits yet" in await forge.said(task, "git_status")
    await forge.change(task, "a.txt", "first\n")
    assert forge.git(project, "show", "conclave/task-1:a.txt") == "first"


async def test_a_workspace_is_made_once_whoever_asks_at_once(forge: Forge):
    project = await forge.project({f"{n}.txt": "x" for n in range(50)})
    task = await forge.task(project)
    asked = [forge.said(task, "list_files") for _ in range(5)]
    asked += [forge.said(task, "write_file", path="mine", content="1")]
    *listings, _ = await asyncio.gather(*asked)
    for listing in listings:
        assert {f"{n}.txt (1)" for n in range(50)} <= set(listing.splitlines())
    assert forge.left() == [str(project), f"task-{task.id}"]
    assert await forge.said(task, "read_file", path="mine")


@pytest.mark.parametrize("step", ["remote", "update-ref", "reset"])
async def test_a_kill_while_a_workspace_is_made_leaves_nothing_in_its_place(
    forge: Forge, monkeypatch: pytest.MonkeyPatch, origin: Origin, step: str
):
    project = await forge.project(url=origin.url)
    task = await forge.task(project)
    before = forge.left()
    whole = BranchedRepository.grow

    async def cut(self: BranchedRepository, base: str | None) -> None:
        ask = self._session._program.run

        async def run(call: object) -> object:
            if step in call.arguments:  # pyright: ignore[reportAttributeAccessIssue]
                raise Killed
            return await ask(call)  # pyright: ignore[reportArgumentType]

        with monkeypatch.context() as patch:
            patch.setattr(self._session._program, "run", run)
            await whole(self, base)

    async def dead(staged: object) -> None:
        """A process that is dead removes nothing."""

    with monkeypatch.context() as patch:
        patch.setattr(BranchedRepository, "grow", cut)
        patch.setattr(forge.store, "discard", dead)
        with pytest.raises(Killed):
            await forge.use(task.place, "list_files")
    left = [name for name in forge.left() if name not in before]
    assert len(left) == 1
    assert left[0].startswith(".making-")
    assert "a.txt (4)" in await forge.said(task, "list_files")
    assert forge.left() == sorted([*before, f"task-{task.id}"])
    assert forge.git(project, "branch", "--list", "conclave/*") == ""


async def test_a_kill_before_a_whole_workspace_is_put_in_its_place(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
):
    project = await forge.project({"a.txt": "one\n"})
    task = await forge.task(project)

    async def dead(*args: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(forge.store, "install", dead)
        patch.setattr(forge.store, "discard", dead)
        with pytest.raises(Killed):
            await forge.use(task.place, "list_files")
    assert "a.txt (4)" in await forge.said(task, "list_files")
    assert forge.left() == [str(project), f"task-{task.id}"]


async def test_a_commit_that_was_not_shown_is_shown_when_the_place_is_next_opened(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
):
    project = await forge.project({"a.txt": "one\n"})
    task = await forge.task(project)
    await forge.said(task, "write_file", path="a.txt", content="two\n")
    await forge.said(task, "git_add", paths=["a.txt"])

    async def killed(self: object) -> None:
        raise Killed

    async def busy(self: object) -> None:
        raise GitBusy("Another git operation is running in this workspace")

    with monkeypatch.context() as patch:
        patch.setattr(BranchedRepository, "show", killed)
        with pytest.raises(Killed):
            await forge.use(task.place, "git_commit", message="Two")
        patch.setattr(BranchedRepository, "show", busy)
        assert "two" in await forge.said(task, "read_file", path="a.txt")
    assert forge.git(project, "branch", "--list", "conclave/*") == ""
    assert "two" in await forge.said(task, "read_file", path="a.txt")
    assert forge.git(project, "show", "conclave/task-1:a.txt") == "two"


async def test_a_branch_that_somebody_has_checked_out_is_shown_later(forge: Forge):
    project = await forge.project({"a.txt": "one\n"})
    task = await forge.task(project)
    await forge.change(task, "a.txt", "two\n")
    _, checkout = await forge.workspaces.open(project)
    await checkout.repository.checkout("conclave/task-1")
    await forge.change(task, "a.txt", "three\n")
    assert forge.git(project, "show", "conclave/task-1:a.txt") == "two"
    assert forge.tree(project).joinpath("a.txt").read_text() == "two\n"
    await checkout.repository.checkout("trunk")
    await forge.said(task, "git_status")
    assert forge.git(project, "show", "conclave/task-1:a.txt") == "three"


async def test_what_a_task_does_to_other_branches_stays_its_own(forge: Forge):
    """It cannot move `trunk`; a branch it makes is shown under its own name."""
    project = await forge.project({"a.txt": "one\n"})
    task = await forge.task(project)
    head = forge.git(project, "rev-parse", "trunk")
    await forge.said(task, "git_checkout", branch="trunk", create=True)
    await forge.change(task, "a.txt", "mine\n")
    assert forge.git(project, "rev-parse", "trunk") == head
    assert forge.git(project, "show", "conclave/task-1-trunk:a.txt") == "mine"
    assert forge.git(project, "show", "trunk:a.txt") == "one"


async def test_a_task_pulls_from_where_the_project_came_from(forge: Forge, origin: Origin):
    project = await forge.project(url=origin.url)
    task = await forge.task(project)
    await forge.change(task, "mine.txt", "mine\n")
    origin.commit({"a.txt": "newer\n"}, "Newer")
    said = await forge.said(task, "git_pull", remote="origin", branch="trunk")
    assert said == "Pulled 1 commit from origin/trunk."
    assert "newer" in await forge.said(task, "read_file", path="a.txt")
    assert forge.git(project, "show", "conclave/task-1:a.txt") == "newer"
    assert "Pushed" in await forge.said(task, "git_push")
    assert "conclave/task-1" in await forge.said(task, "git_branch")


@pytest.mark.parametrize(
    "path", ["../../1/tree/a.txt", "../git/config", ".git/config", "/etc/passwd", "out/a.txt"]
)
async def test_no_path_leads_from_a_task_to_the_project_or_to_git(forge: Forge, path: str):
    project = await forge.project({"a.txt": "one\n"})
    task = await forge.task(project)
    await forge.said(task, "list_files")
    os.symlink(forge.tree(project), forge.tree("task-1") / "out")
    for name, more in (("read_file", {}), ("write_file", {"content": "x"}), ("delete_file", {})):
        assert (await forge.use(task.place, name, path=path, **more)).is_error, name
    assert forge.tree(project).joinpath("a.txt").read_text() == "one\n"
    assert not (forge.tree("task-1") / ".git").exists()


async def test_a_command_sees_its_own_files_and_no_repository(forge: Forge):
    project = await forge.project({"a.txt": "one\n"})
    task = await forge.task(project)
    found = await forge.use(
        task.place, "bash", command=f"cat a.txt; ls -a; ls {forge.root} ../git ../../1 2>&1"
    )
    assert "one" in found.content
    assert ".git" not in found.content
    assert "objects" not in found.content
    await forge.use(task.place, "bash", command="printf evil >a.txt")
    assert forge.tree(project).joinpath("a.txt").read_text() == "one\n"


async def test_what_a_checkout_says_of_programs_is_not_run(forge: Forge, tmp_path: Path):
    """Filters, hooks and fsmonitor of files, of the task's and of the project's repository."""
    trap = tmp_path / "trap"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {trap}\n")
    script.chmod(0o755)
    project = await forge.project({".gitattributes": "* filter=x diff=x\n", "a.txt": "one\n"})
    task = await forge.task(project)
    await forge.said(task, "list_files")
    for home in (forge.root / str(project), forge.root / f"task-{task.id}"):
        hooks = home / "git" / "hooks"
        hooks.mkdir(exist_ok=True)
        for name in ("post-checkout", "pre-commit", "post-commit", "reference-transaction"):
            (hooks / name).write_text(script.read_text())
            (hooks / name).chmod(0o755)
    await forge.change(task, "a.txt", "two\n")
    other = await forge.task(project)
    await forge.said(other, "git_status")
    assert not trap.exists()
    with (forge.root / f"task-{task.id}" / "git" / "config").open("a") as config:
        config.write(f'[filter "x"]\n\tclean = {script}\n[core]\n\tfsmonitor = {script}\n')
    refused = await forge.use(task.place, "git_status")
    assert "not allowed" in refused.content
    with (forge.root / str(project) / "git" / "config").open("a") as config:
        config.write(f"[uploadpack]\n\tpackObjectsHook = {script}\n")
    with pytest.raises(NotARepository):
        await forge.store.show("task-2", of=str(project), branch="conclave/task-2")
    assert not trap.exists()


async def test_a_place_goes_a_week_after_its_task_has_ended_and_the_branch_stays(forge: Forge):
    project = await forge.project({"a.txt": "one\n"})
    tasks = {
        name: await forge.task(project) for name in ("runs", "ended", "long ago", "failed", "gone")
    }
    for task in tasks.values():
        await forge.change(task, "a.txt", f"{task.id}\n")
    await set_task(forge.db, tasks["ended"].id, "completed", days_ago=6)
    await set_task(forge.db, tasks["long ago"].id, "completed", days_ago=8)
    await set_task(forge.db, tasks["failed"].id, "failed", days_ago=8)
    async with forge.db.transaction() as tx:
        await tx.conn.execute(
            update(TaskRow)
            .where(TaskRow.id == tasks["gone"].id)
            .values(deleted_at=TaskRow.created_at)
        )
    assert await forge.worktrees.run() == 3
    assert await forge.worktrees.run() == 0
    kept = [f"task-{tasks[name].id}" for name in ("runs", "ended")]
    assert forge.left() == [str(project), *kept]
    for task in tasks.values():
        assert forge.git(project, "show", f"conclave/task-{task.id}:a.txt") == str(task.id)
    again = tasks["failed"]
    await set_task(forge.db, again.id, "pending")
    assert str(again.id) in await forge.said(again, "read_file", path="a.txt")
    await forge.change(again, "b.txt", "more\n")
    assert forge.git(project, "rev-list", "--count", f"trunk..conclave/task-{again.id}") == "2"


async def test_a_place_with_commits_that_cannot_be_shown_is_kept(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
):
    project = await forge.project({"a.txt": "one\n"})
    task = await forge.task(project)

    async def busy(self: object) -> None:
        raise GitBusy("Another git operation is running in this workspace")

    with monkeypatch.context() as patch:
        patch.setattr(BranchedRepository, "show", busy)
        await forge.change(task, "a.txt", "two\n")
        await set_task(forge.db, task.id, "completed", days_ago=8)
        assert await forge.worktrees.run() == 0
        assert "task-1" in forge.left()
    assert await forge.worktrees.run() == 1
    assert forge.git(project, "show", "conclave/task-1:a.txt") == "two"
    assert await forge.worktrees.remove(task.id)


async def test_places_of_a_deleted_project_go_with_it(forge: Forge):
    project = await forge.project({"a.txt": "one\n"})
    task = await forge.task(project)
    await forge.change(task, "a.txt", "two\n")
    async with forge.db.transaction() as tx:
        await tx.conn.execute(update(ProjectRow).values(deleted_at=ProjectRow.created_at))
    assert await forge.worktrees.run() == 1
    assert forge.left() == [str(project)]
    with pytest.raises(NotFound):
        await forge.workspaces.of_task(project, task.id)


async def test_scratch_places_go_with_their_chats_and_a_week_after_their_tasks(forge: Forge):
    chat = await a_conversation(forge.db, ConversationKind.CHAT)
    gone = await a_conversation(forge.db, ConversationKind.CHAT)
    runs, ended, long_ago = [await a_task(forge.db) for _ in range(3)]
    await set_task(forge.db, ended.id, "failed", days_ago=6)
    await set_task(forge.db, long_ago.id, "cancelled", days_ago=8)
    async with forge.db.transaction() as tx:
        await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == gone)
            .values(deleted_at=ConversationRow.created_at)
        )
    conversations = [chat, gone, *(task.conversation_id for task in (runs, ended, long_ago))]
    for conversation in conversations:
        place = ToolPlace(conversation_id=conversation, agent_id=1)
        assert not (await forge.use(place, "write_file", path="a", content="b")).is_error
    assert await forge.scratch.run() == 2
    kept = [chat, runs.conversation_id, ended.conversation_id]
    assert forge.left() == sorted(f"chat-{conversation}" for conversation in kept)

"""Tools that read and change files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schema.domain.sandbox import SandboxConfig, WorkspaceMode
from schema.domain.tools import ToolPlace
from tests.core.tools.conftest import Bench

PATCH = """\
diff --git a/a.txt b/a.txt
--- a/a.txt
+++ b/a.txt
@@ -1,3 +1,3 @@
 one
-two
+TWO
 three
--- /dev/null
+++ b/new/b.txt
@@ -0,0 +1,2 @@
+first
+second
"""


async def test_a_file_is_read_in_parts_with_its_line_numbers(bench: Bench):
    bench.write("a.txt", "".join(f"line {n}\n" for n in range(1, 11)))
    assert await bench.said("read_file", path="/workspace/a.txt", limit=2) == (
        "     1\tline 1\n     2\tline 2\n[Lines 1 to 2 of 10. Go on with offset=3.]"
    )
    last = await bench.said("read_file", path="a.txt", offset=10)
    assert last == "    10\tline 10\n[Lines 10 to 10 of 10.]"
    assert "has 10 lines" in await bench.refused("read_file", path="a.txt", offset=11)


async def test_long_lines_and_long_files_are_cut_and_say_so(bench: Bench):
    bench.write("wide.txt", "x" * 5000 + "\n" + "\n".join("y" * 1000 for _ in range(100)))
    said = await bench.said("read_file", path="wide.txt")
    assert "[line cut: 5000 characters]" in said
    assert len(said) < 45_000
    assert "Go on with offset=" in said


async def test_what_is_no_text_is_not_shown(bench: Bench):
    bench.tree.joinpath("pixel.png").write_bytes(b"\x89PNG\x00\x01")
    assert "not text" in await bench.refused("read_file", path="pixel.png")
    assert "not text" in await bench.refused(
        "edit_file", path="pixel.png", old_string="a", new_string="b"
    )


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secrets.env", "leaves the workspace"),
        ("/etc/passwd", "must be relative"),
        (".git/config", "reaches into .git"),
        ("link", "symbolic link"),
        ("gone.txt", "not found"),
    ],
)
async def test_paths_that_lead_out_come_back_with_the_reason(
    bench: Bench, path: str, reason: str, tmp_path: Path
):
    outside = tmp_path / "outside"
    outside.write_text("before")
    os.symlink(outside, bench.tree / "link")
    assert reason in await bench.refused("read_file", path=path)
    if path != "gone.txt":
        assert reason in await bench.refused("write_file", path=path, content="x")
    assert reason in await bench.refused("edit_file", path=path, old_string="b", new_string="x")
    patch = f"--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-before\n+after\n"
    if not path.startswith("/"):
        assert await bench.refused("apply_patch", patch=patch)
    assert outside.read_text() == "before"


async def test_writing_twice_is_writing_once(bench: Bench):
    assert (
        await bench.said("write_file", path="d/a.txt", content="é\n") == "Made d/a.txt (3 bytes)."
    )
    assert await bench.said("write_file", path="d/a.txt", content="é\n") == (
        "Wrote d/a.txt (3 bytes)."
    )
    assert bench.read("d/a.txt") == "é\n"


async def test_an_edit_that_was_made_is_recognised(bench: Bench):
    bench.write("a.txt", "one\ntwo\n")
    change = {"path": "a.txt", "old_string": "two", "new_string": "two and a half"}
    assert await bench.said("edit_file", **change) == "Edited a.txt in one place."
    assert "so already" in await bench.said("edit_file", **change)
    assert bench.read("a.txt") == "one\ntwo and a half\n"


async def test_an_edit_needs_one_place(bench: Bench):
    bench.write("a.txt", "x = 1\ny\nx = 1\n")
    said = await bench.refused("edit_file", path="a.txt", old_string="x = 1", new_string="x = 2")
    assert "2 times (lines 1, 3)" in said
    assert "not in the file" in await bench.refused(
        "edit_file", path="a.txt", old_string="z", new_string="w"
    )
    said = await bench.said(
        "edit_file", path="a.txt", old_string="x = 1", new_string="x = 2", replace_all=True
    )
    assert said == "Edited a.txt in 2 places."
    assert bench.read("a.txt") == "x = 2\ny\nx = 2\n"


async def test_line_ends_of_other_systems_are_kept(bench: Bench):
    bench.write("a.txt", "one\r\ntwo\r\nthree\r\n")
    await bench.said("edit_file", path="a.txt", old_string="one\ntwo", new_string="1\n2")
    patch = "--- a/a.txt\n+++ b/a.txt\n@@ -2,2 +2,2 @@\n 2\n-three\n+3\n"
    await bench.said("apply_patch", patch=patch)
    assert bench.read("a.txt") == "1\r\n2\r\n3\r\n"


async def test_a_patch_changes_several_files_and_twice_is_once(bench: Bench):
    bench.write("a.txt", "one\ntwo\nthree\n")
    assert await bench.said("apply_patch", patch=PATCH) == "Patched a.txt.\nMade new/b.txt."
    assert bench.read("a.txt") == "one\nTWO\nthree\n"
    assert bench.read("new/b.txt") == "first\nsecond\n"
    assert "so already" in await bench.said("apply_patch", patch=PATCH)


async def test_a_patch_that_fits_in_part_changes_nothing(bench: Bench):
    bench.write("a.txt", "one\ntwo\nthree\n")
    bench.write("new/b.txt", "something else\n")
    assert "new/b.txt is there already" in await bench.refused("apply_patch", patch=PATCH)
    assert bench.read("a.txt") == "one\ntwo\nthree\n"


async def test_a_patch_that_cannot_be_written_whole_is_taken_back(bench: Bench):
    bench.write("a.txt", "one\ntwo\nthree\n")
    bench.write("new", "a file where a directory is needed\n")
    said = await bench.refused("apply_patch", patch=PATCH)
    assert "new is not a directory" in said
    assert bench.read("a.txt") == "one\ntwo\nthree\n"


async def test_a_listing_shows_kinds_and_says_what_it_leaves_out(bench: Bench):
    for name in ("src/a.py", "src/b.py", "c.md"):
        bench.write(name, "12345")
    os.symlink("/etc", bench.tree / "link")
    assert (await bench.said("list_files")).splitlines() == [
        "c.md (5)", "link [symlink, not followed]", "src/",
    ]  # fmt: skip
    found = await bench.said("list_files", recursive=True, pattern="*.py")
    assert found.splitlines() == ["src/a.py (5)", "src/b.py (5)"]
    short = await bench.said("list_files", recursive=True, limit=1)
    assert short.splitlines()[1].startswith("[1 of 5 shown")
    assert "not found" in await bench.refused("list_files", path="nowhere")


async def test_files_are_moved_and_deleted(bench: Bench):
    bench.write("a.txt", "1")
    assert (
        await bench.said("move_file", source="a.txt", target="d/b.txt") == "Moved a.txt to d/b.txt."
    )
    assert "not an empty directory" in await bench.refused("delete_file", path="d")
    await bench.said("delete_file", path="d", recursive=True)
    assert list(bench.tree.iterdir()) == []


async def test_no_more_is_deleted_at_once_than_the_agent_may(bench: Bench):
    bench.place = bench.place.model_copy(update={"most_deleted_mb": 0.00001})
    bench.write("d/a.txt", "1" * 6)
    bench.write("d/e/b.txt", "1" * 6)
    assert "max_file_delete_mb" in await bench.refused("delete_file", path="d", recursive=True)
    bench.write("big.txt", "1" * 11)
    assert "max_file_delete_mb" in await bench.refused("delete_file", path="big.txt")
    assert bench.read("d/a.txt") == "1" * 6
    await bench.said("delete_file", path="d/a.txt")
    await bench.said("delete_file", path="d", recursive=True)


async def test_a_read_only_workspace_is_not_changed(bench: Bench):
    bench.write("a.txt", "one\ntwo\nthree\n")
    bench.rules.config = SandboxConfig(workspace_mode=WorkspaceMode.READ_ONLY)
    for name, arguments in (
        ("write_file", {"path": "a.txt", "content": ""}),
        ("edit_file", {"path": "a.txt", "old_string": "one", "new_string": "1"}),
        ("apply_patch", {"patch": PATCH}),
        ("move_file", {"source": "a.txt", "target": "b.txt"}),
        ("delete_file", {"path": "a.txt"}),
        ("git_checkout", {"branch": "x"}),
        ("git_pull", {}),
    ):
        assert "read-only" in await bench.refused(name, **arguments), name
    assert (await bench.use("bash", command="echo 1 >a.txt")).is_error
    assert bench.read("a.txt") == "one\ntwo\nthree\n"
    assert "one" in await bench.said("read_file", path="a.txt")


async def test_a_project_that_is_not_there_is_an_answer(bench: Bench):
    bench.place = ToolPlace(conversation_id=7, agent_id=1, project_id=99)
    assert await bench.refused("list_files") == "Project 99 not found"

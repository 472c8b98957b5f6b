"""Edits and patches made twice are made once; what cannot be so is refused."""

from __future__ import annotations

import contextlib
import difflib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conclave.tools.builtin import edits, patches
from conclave.tools.builtin.edits import EditRefused
from conclave.tools.builtin.patches import PatchRefused

SHORT = st.text(alphabet="ab\n", max_size=12)
LINES = st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=10)


@given(text=SHORT, old=SHORT, new=SHORT, every=st.booleans())
@settings(max_examples=400, deadline=None)
def test_an_edit_made_twice_is_made_once(text: str, old: str, new: str, every: bool):
    try:
        after = edits.replace(text, old, new, every=every)
    except EditRefused:
        return
    if old not in text:
        assert after.text == text
    with contextlib.suppress(EditRefused):
        assert edits.replace(after.text, old, new, every=every).text == after.text


@given(text=SHORT, old=SHORT, new=SHORT)
@settings(max_examples=300, deadline=None)
def test_an_edit_changes_one_place_and_nothing_else(text: str, old: str, new: str):
    try:
        after = edits.replace(text, old, new, every=False)
    except EditRefused:
        return
    if after.count:
        assert after.text in {
            text[:at] + new + text[at + len(old) :]
            for at in range(len(text))
            if text.startswith(old, at)
        }


@given(before=LINES, after=LINES, context=st.integers(0, 3))
@settings(max_examples=400, deadline=None)
def test_a_patch_of_difflib_gives_what_it_was_made_for(
    before: list[str], after: list[str], context: int
):
    """Where a patch is accepted it gives that very text, and does so twice."""
    old, new = ("".join(f"{line}\n" for line in lines) for lines in (before, after))
    made = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), "a/f", "b/f", n=context
    )
    diff = "".join(made)
    if not diff:
        return
    [patch] = patches.parse(diff)
    try:
        found = patches.apply(patch, old)
    except PatchRefused:
        return
    if not found.already:
        assert found.text == new
    with contextlib.suppress(PatchRefused):
        assert not patches.apply(patch, found.text).changed


def distinct(number: int) -> str:
    return "".join(f"line {n}\n" for n in range(1, number + 1))


@pytest.mark.parametrize("context", [1, 3])
def test_a_plain_change_in_a_plain_file_is_always_accepted(context: int):
    old = distinct(40)
    new = old.replace("line 7\n", "line 7\nand more\n").replace("line 30\n", "")
    new = new.replace("line 40\n", "line 40\nthe end\n")
    made = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), "a/f", "b/f", n=context
    )
    [patch] = patches.parse("".join(made))
    assert patches.apply(patch, old).text == new
    assert not patches.apply(patch, new).changed


def apply(patch: str, text: str) -> str:
    [found] = patches.parse(patch)
    return patches.apply(found, text).text


def test_wrong_line_numbers_and_counts_are_forgiven_where_the_place_is_clear():
    patch = "--- a/f\n+++ b/f\n@@ -90,9 +90,9 @@\n line 2\n-line 3\n+line three\n line 4\n"
    assert apply(patch, distinct(5)) == distinct(5).replace("line 3", "line three")


def test_several_places_are_not_guessed_at():
    patch = "--- a/f\n+++ b/f\n@@ -9 +9 @@\n-x\n+y\n"
    with pytest.raises(PatchRefused, match=r"several places \(lines 1, 3\)"):
        apply(patch, "x\nz\nx\n")


def test_a_misfit_says_which_line_differs():
    patch = "--- a/f\n+++ b/f\n@@ -2,2 +2,2 @@\n line 2\n-line 33\n+y\n"
    with pytest.raises(
        PatchRefused, match=r"at line 3 it expects 'line 33', but there is 'line 3'"
    ):
        apply(patch, distinct(5))


def test_a_missing_newline_at_the_end_is_made_and_taken():
    note = "\\ No newline at end of file\n"
    add = f"--- a/f\n+++ b/f\n@@ -1 +1 @@\n-x\n{note}+x\n"
    take = f"--- a/f\n+++ b/f\n@@ -1 +1 @@\n-x\n+x\n{note}"
    assert apply(add, "x") == "x\n"
    assert apply(add, "x\n") == "x\n"
    assert apply(take, "x\n") == "x"
    assert apply(take, "x") == "x"


def test_lines_that_look_like_headers_stay_lines():
    patch = "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n--- a\n+++ b\n z\n"
    assert apply(patch, "-- a\nz\n") == "++ b\nz\n"


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        ("hello", "no unified diff"),
        ("--- a/f\n+++ b/f\n", "has no hunks"),
        ("--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n", "use delete_file"),
        ("--- a/f\n+++ b/g\n@@ -1 +1 @@\n-x\n+y\n", "use move_file"),
        ("rename from a\nrename to b\n", "use move_file"),
        ("@@ -1 +1 @@\n-x\n+y\n", "without --- and"),
        ("--- a/f\n+++ b/f\n@@ nonsense @@\n-x\n", "a hunk begins with"),
        ("--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n-x\n?y\n", "begins with a space"),
        ("--- a/f\n+++ b/f\n@@ -1 +1 @@\n x\n", "changes nothing"),
    ],
)
def test_what_cannot_be_read_says_why(patch: str, reason: str):
    with pytest.raises(PatchRefused, match=reason):
        patches.parse(patch)


def test_an_edit_that_would_match_again_is_refused():
    with pytest.raises(EditRefused, match="After this edit"):
        edits.replace("aXbb", "Xb", "X", every=False)
    assert edits.replace("aXbb", "aXbb", "aXb", every=False).text == "aXb"

"""Unified diffs: read, and applied to texts, made so that twice is once. Nothing here has files.

A hunk goes where it says, else to the one place where its lines stand exactly. Where its new
lines stand already it is done. Line counts in hunk headers need not be right: models miscount.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from schema.domain.base import Shape

MAX_FILES = 50
_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@.*")
_NOWHERE = "/dev/null"
_NOT_THIS = {
    "rename from ": "Renames are not applied: use move_file",
    "copy from ": "Copies are not applied: use write_file",
    "GIT binary patch": "Binary patches are not applied",
    "Binary files ": "Binary patches are not applied",
}


class PatchRefused(ValueError):
    """It cannot be read or does not fit; the message tells the model where."""


class Hunk(Shape):
    """Lines that stand in the file, and those that are to stand there instead."""

    number: int
    start: int
    """The line where the old ones are said to begin, from 1; for an insertion the one before."""
    old: tuple[str, ...]
    new: tuple[str, ...]
    ends_open_before: bool = False
    ends_open_after: bool = False
    """Whether the old or the new last line has no newline at its end, and is the file's last."""

    @property
    def touches_end(self) -> bool:
        """Whether it makes or takes the newline at the end of the file."""
        return self.ends_open_before != self.ends_open_after


class FilePatch(Shape):
    """What changes in one file."""

    path: str
    creates: bool
    hunks: tuple[Hunk, ...]


def parse(patch: str) -> list[FilePatch]:
    """Read a diff of one or several files. Raises `PatchRefused`."""
    lines = patch.replace("\r\n", "\n").rstrip("\n").split("\n")
    files: list[FilePatch] = []
    at = 0
    while at < len(lines):
        if _begins_file(lines, at):
            found, at = _file(lines, at)
            files.append(found)
            continue
        for start, reason in _NOT_THIS.items():
            if lines[at].startswith(start):
                raise PatchRefused(f"Line {at + 1}: {reason}.")
        if lines[at].startswith("@@ "):
            raise PatchRefused(f"Line {at + 1}: a hunk without --- and +++ lines before it.")
        at += 1
    if not files:
        raise PatchRefused(
            "There is no unified diff in it: --- a/file, +++ b/file, then hunks that begin with "
            "@@ -line,count +line,count @@."
        )
    _judge_paths(files)
    return files


def _judge_paths(files: Sequence[FilePatch]) -> None:
    paths = [file.path for file in files]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise PatchRefused(f"{twice} is there twice: put all its hunks under one header.")
    if len(files) > MAX_FILES:
        raise PatchRefused(f"It changes {len(files)} files: at most {MAX_FILES} at once.")


def _begins_file(lines: Sequence[str], at: int) -> bool:
    return lines[at].startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ ")


def _file(lines: Sequence[str], at: int) -> tuple[FilePatch, int]:
    before, after = _path(lines[at]), _path(lines[at + 1])
    if after == _NOWHERE:
        raise PatchRefused(f"Line {at + 2}: files are not deleted by patches: use delete_file.")
    creates = before == _NOWHERE
    if not creates and _plain(before, "a/") != _plain(after, "b/") and before != after:
        raise PatchRefused(f"Line {at + 1}: {before} becomes {after}: use move_file to rename.")
    path = after if before == after else _plain(after, "b/")
    at += 2
    hunks: list[Hunk] = []
    while at < len(lines) and lines[at].startswith("@@"):
        hunk, at = _hunk(lines, at, len(hunks) + 1)
        hunks.append(hunk)
    if not hunks:
        raise PatchRefused(f"{path} has no hunks (@@ -line,count +line,count @@).")
    if creates and (len(hunks) > 1 or hunks[0].old):
        raise PatchRefused(f"{path} is new: one hunk with + lines only is needed.")
    return FilePatch(path=path, creates=creates, hunks=tuple(hunks)), at


def _path(header: str) -> str:
    return header[4:].partition("\t")[0].strip().strip('"')


def _plain(path: str, prefix: str) -> str:
    return path.removeprefix(prefix)


def _hunk(lines: Sequence[str], at: int, number: int) -> tuple[Hunk, int]:
    match = _HUNK.fullmatch(lines[at])
    if match is None:
        raise PatchRefused(f"Line {at + 1}: a hunk begins with @@ -line,count +line,count @@.")
    left_old, left_new = int(match[2] or 1), int(match[4] or 1)
    old: list[str] = []
    new: list[str] = []
    open_before = open_after = False
    at += 1
    while at < len(lines):
        line = lines[at]
        is_header = _begins_file(lines, at) and (left_old < 1 or left_new < 1)
        if is_header or line.startswith(("@@ ", "diff --git ")):
            break
        sign, rest = (line[0], line[1:]) if line else (" ", "")
        if not line and left_old < 1 and left_new < 1:
            at += 1
            continue  # a blank line between hunks, not of them
        if sign == "\\":
            open_before = open_before or lines[at - 1][:1] in {"-", " "}
            open_after = open_after or lines[at - 1][:1] in {"+", " "}
        elif sign in {" ", "-", "+"}:
            if sign != "+":
                old.append(rest)
                left_old -= 1
            if sign != "-":
                new.append(rest)
                left_new -= 1
        elif left_old < 1 and left_new < 1:
            break  # what other tools write between files
        else:
            raise PatchRefused(f"Line {at + 1}: a line of a hunk begins with a space, - or +.")
        at += 1
    if old == new and open_before == open_after:
        raise PatchRefused(f"Hunk {number} at line {match[1]} changes nothing.")
    hunk = Hunk(
        number=number,
        start=int(match[1]),
        old=tuple(old),
        new=tuple(new),
        ends_open_before=open_before,
        ends_open_after=open_after,
    )
    return hunk, at


class Patched(Shape):
    """The text afterwards, and the numbers of the hunks that stood there already."""

    text: str
    changed: bool
    already: tuple[int, ...] = ()


@dataclass
class _Lines:
    """A file's lines, without their ends."""

    lines: list[str]
    is_open: bool
    """The last one has no newline at its end."""
    newline: str

    @classmethod
    def of(cls, text: str) -> _Lines:
        newline = "\r\n" if "\r\n" in text else "\n"
        lines = text.split(newline)
        is_open = lines[-1] != ""
        return cls(lines if is_open else lines[:-1], is_open, newline)

    @property
    def text(self) -> str:
        return self.newline.join(self.lines) + (
            "" if self.is_open or not self.lines else self.newline
        )

    def reaches_end(self, at: int, size: int) -> bool:
        return at + size == len(self.lines)

    def splice(self, hunk: Hunk, at: int) -> None:
        if hunk.touches_end and self.reaches_end(at, len(hunk.old)):
            self.is_open = hunk.ends_open_after
        self.lines[at : at + len(hunk.old)] = hunk.new

    def places(self, part: Sequence[str], least: int) -> list[int]:
        wanted = list(part)
        size = len(wanted)
        return [
            at
            for at in range(least, len(self.lines) - size + 1)
            if self.lines[at] == wanted[0] and self.lines[at : at + size] == wanted
        ]


def apply(file: FilePatch, text: str | None) -> Patched:
    """Apply to a file's text, None where there is no file. Raises `PatchRefused`."""
    after = _once(file, text)
    if after.changed and _once_more(file, after.text):
        raise PatchRefused(
            f"{file.path}: applied again, this patch would change the file again. Give its hunks "
            "more lines of context."
        )
    return after


def _once_more(file: FilePatch, text: str) -> bool:
    try:
        return _once(file, text).changed
    except PatchRefused:
        return False


def _once(file: FilePatch, text: str | None) -> Patched:
    if file.creates:
        return _created(file, text)
    if text is None:
        raise PatchRefused(f"{file.path} is not there. A new file has --- /dev/null.")
    content = _Lines.of(text)
    already: list[int] = []
    moved = least = 0
    for hunk in file.hunks:
        at, is_done = _place(file.path, hunk, content, moved, least)
        if is_done:
            already.append(hunk.number)
        else:
            content.splice(hunk, at)
        moved = at - _stated(hunk) + len(hunk.new) - len(hunk.old)
        least = at + len(hunk.new)
    after = content.text
    return Patched(text=after, changed=after != text, already=tuple(already))


def _created(file: FilePatch, text: str | None) -> Patched:
    hunk = file.hunks[0]
    wanted = "\n".join(hunk.new) + ("" if hunk.ends_open_after else "\n")
    if text is not None and text != wanted:
        raise PatchRefused(f"{file.path} is there already, with other content.")
    return Patched(text=wanted, changed=text is None)


def _stated(hunk: Hunk) -> int:
    """Return the index at which the header puts the old lines."""
    return hunk.start if not hunk.old else max(hunk.start - 1, 0)


def _place(path: str, hunk: Hunk, content: _Lines, moved: int, least: int) -> tuple[int, bool]:
    """Return where a hunk belongs and whether it is done there. Raises `PatchRefused`."""
    stated = _stated(hunk) + moved
    done = content.places(hunk.new, least) if hunk.new else []
    if not hunk.old:
        at = min(max(stated, least), len(content.lines))
        return at, at in done
    size = len(hunk.new)
    if hunk.touches_end:
        done = [
            at
            for at in done
            if (content.reaches_end(at, size) and content.is_open) == hunk.ends_open_after
        ]
    found = [
        at
        for at in content.places(hunk.old, least)
        if not any(start <= at and at + len(hunk.old) <= start + size for start in done)
    ]
    if stated in found:
        return stated, False
    if len(found) == 1:
        return found[0], False
    if found:
        places = ", ".join(str(at + 1) for at in found[:10])
        raise PatchRefused(
            f"{path}: the lines of hunk {hunk.number} stand at several places (lines {places}) "
            f"and not at line {hunk.start}. Correct its line number or give more context."
        )
    if done:
        return (stated if stated in done else done[0]), True
    raise PatchRefused(_misfit(path, hunk, content.lines, stated))


def _misfit(path: str, hunk: Hunk, lines: Sequence[str], stated: int) -> str:
    """Say which line differs first, where the hunk is said to go."""
    for offset, wanted in enumerate(hunk.old):
        at = stated + offset
        there = lines[at] if 0 <= at < len(lines) else None
        if there != wanted:
            shown = "the end of the file" if there is None else repr(there[:200])
            return (
                f"{path}: hunk {hunk.number} does not fit: at line {at + 1} it expects "
                f"{wanted[:200]!r}, but there is {shown}. Nothing was changed. Read the file again."
            )
    return f"{path}: hunk {hunk.number} does not fit at line {hunk.start}. Nothing was changed."

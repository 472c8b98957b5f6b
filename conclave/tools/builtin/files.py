"""Tools that read and change files; every path is judged and opened by `FileTree`."""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase

from pydantic import Field

from conclave.errors import ConclaveError, NotFound
from conclave.ports.workspaces import FileTree
from conclave.tools.builtin.definition import Answer, Arguments, define, failure, sentence
from conclave.tools.builtin.edits import EditRefused, replace
from conclave.tools.builtin.excerpts import MOST_CHARACTERS
from conclave.tools.builtin.patches import FilePatch, PatchRefused, apply, parse
from conclave.tools.builtin.places import Places, relative
from conclave.tools.toolbox import BuiltTool
from schema.domain.base import Shape
from schema.domain.tools import Effect, ToolCategory, ToolPlace
from schema.domain.workspaces import Entry, EntryType

_PATH = "Relative to the workspace, such as src/app.py."
_LONGEST_LINE = 2000
_MOST_ENTRIES = 500
_SECONDS = 60
_MEGABYTE = 1_000_000
_MOST_MEASURED = 1_000_000
"""Files of a directory about to be deleted."""


class ReadFile(Arguments):
    """Of `read_file`."""

    path: str = Field(description=_PATH, min_length=1, max_length=4096, examples=["README.md"])
    offset: int = Field(default=1, ge=1, description="The line to begin with, from 1.")
    limit: int = Field(default=1000, ge=1, le=5000, description="How many lines at most.")


class WriteFile(Arguments):
    """Of `write_file`."""

    path: str = Field(description=_PATH, min_length=1, max_length=4096, examples=["notes.txt"])
    content: str = Field(
        description="All that the file is to hold.", max_length=900_000, examples=["A note.\n"]
    )


class EditFile(Arguments):
    """Of `edit_file`."""

    path: str = Field(description=_PATH, min_length=1, max_length=4096, examples=["notes.txt"])
    old_string: str = Field(
        description="The exact text to replace, with enough lines around it to stand there once.",
        min_length=1,
        max_length=400_000,
        examples=["A note."],
    )
    new_string: str = Field(
        description="What is to stand there instead.",
        max_length=400_000,
        examples=["A longer note."],
    )
    replace_all: bool = Field(default=False, description="Replace every place, not just one.")


class ApplyPatch(Arguments):
    """Of `apply_patch`."""

    patch: str = Field(
        description="A unified diff. --- /dev/null makes a new file; files are not deleted or "
        "renamed by it.",
        min_length=1,
        max_length=900_000,
        examples=["--- /dev/null\n+++ b/patched.txt\n@@ -0,0 +1 @@\n+patched\n"],
    )


class ListFiles(Arguments):
    """Of `list_files`."""

    path: str = Field(default="", max_length=4096, description="The directory; empty: all.")
    recursive: bool = Field(default=False, description="Go into directories as well.")
    pattern: str = Field(
        default="", max_length=200, description="Only paths like this, such as *.py or src/*.md."
    )
    limit: int = Field(default=200, ge=1, le=_MOST_ENTRIES, description="How many at most.")


class DeleteFile(Arguments):
    """Of `delete_file`."""

    path: str = Field(description=_PATH, min_length=1, max_length=4096, examples=["notes.txt"])
    recursive: bool = Field(default=False, description="Delete a directory with all in it.")


class MoveFile(Arguments):
    """Of `move_file`."""

    source: str = Field(description=_PATH, min_length=1, max_length=4096, examples=["notes.txt"])
    target: str = Field(
        description="The new path, which must be free.",
        min_length=1,
        max_length=4096,
        examples=["old/notes.txt"],
    )


class _Planned(Shape):
    """A file that a patch changes."""

    path: str
    before: str | None
    """None: there is no such file yet."""
    sha256: str | None
    after: str
    already: tuple[int, ...]
    """The hunks that stood there before."""

    @property
    def told(self) -> str:
        """Say what is done to it."""
        if self.before is None:
            return f"Made {self.path}."
        if not self.already:
            return f"Patched {self.path}."
        return f"Patched {self.path}; so already: hunk {', '.join(map(str, self.already))}."


class FileTools:
    """The tools of category files."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def tools(self) -> list[BuiltTool]:
        """Return them."""
        return [*self._looking(), *self._writing(), *self._moving()]

    def _looking(self) -> list[BuiltTool]:
        return [
            define(
                "read_file",
                "Read a text file of the workspace, with line numbers. Long files are read in "
                "parts: offset and limit count lines.",
                self.read,
                ReadFile,
                effect=Effect.READ,
                category=ToolCategory.FILES,
                timeout_seconds=_SECONDS,
                is_quick=True,
                is_reading=True,
            ),
            define(
                "list_files",
                "List files and directories of the workspace, with sizes in bytes.",
                self.list,
                ListFiles,
                effect=Effect.READ,
                category=ToolCategory.FILES,
                timeout_seconds=_SECONDS,
                is_quick=True,
                is_reading=True,
            ),
        ]

    def _writing(self) -> list[BuiltTool]:
        return [
            define(
                "write_file",
                "Make a file, or replace all that it holds. Directories are made. To change a "
                "part of a file use edit_file.",
                self.write,
                WriteFile,
                effect=Effect.IDEMPOTENT,
                category=ToolCategory.FILES,
                timeout_seconds=_SECONDS,
                is_quick=True,
            ),
            define(
                "edit_file",
                "Replace an exact text in a file. old_string must stand in it exactly once, "
                "unless replace_all is set.",
                self.edit,
                EditFile,
                effect=Effect.IDEMPOTENT,
                category=ToolCategory.FILES,
                timeout_seconds=_SECONDS,
                is_quick=True,
            ),
            define(
                "apply_patch",
                "Apply a unified diff to one or several files: all of it or nothing.",
                self.patch,
                ApplyPatch,
                effect=Effect.IDEMPOTENT,
                category=ToolCategory.FILES,
                timeout_seconds=120,
            ),
        ]

    def _moving(self) -> list[BuiltTool]:
        return [
            define(
                "move_file",
                "Move or rename a file or directory.",
                self.move,
                MoveFile,
                effect=Effect.ONCE,
                category=ToolCategory.FILES,
                timeout_seconds=_SECONDS,
            ),
            define(
                "delete_file",
                "Delete a file, or a directory.",
                self.delete,
                DeleteFile,
                effect=Effect.ONCE,
                category=ToolCategory.FILES,
                timeout_seconds=_SECONDS,
                is_dangerous=True,
            ),
        ]

    async def read(self, asked: ReadFile, place: ToolPlace) -> Answer:
        """Return lines with their numbers."""
        workspace = await self._places.at(place)
        found = await workspace.files.read(relative(asked.path))
        if found.text is None:
            return failure(f"{found.path} is not text ({found.size} bytes): it cannot be shown.")
        lines = found.text.split("\n")
        if lines[-1] == "":
            lines.pop()
        if not lines:
            return f"[{found.path} is empty.]"
        if asked.offset > len(lines):
            return failure(f"{found.path} has {len(lines)} lines: offset {asked.offset} is past.")
        return _numbered(lines, asked.offset, asked.limit)

    async def write(self, asked: WriteFile, place: ToolPlace) -> Answer:
        """Replace or make a file."""
        workspace = await self._places.writable(place)
        data = _encoded(asked.content)
        if data is None:
            return failure("content is not valid Unicode.")
        written = await workspace.files.write(relative(asked.path), data)
        what = "Made" if written.created else "Wrote"
        return f"{what} {written.path} ({written.size} bytes)."

    async def edit(self, asked: EditFile, place: ToolPlace) -> Answer:
        """Replace a text in a file."""
        workspace = await self._places.writable(place)
        found = await workspace.files.read(relative(asked.path))
        if found.text is None:
            return failure(f"{found.path} is not text: it cannot be edited.")
        try:
            edited = await asyncio.to_thread(
                replace, found.text, asked.old_string, asked.new_string, every=asked.replace_all
            )
        except EditRefused as error:
            return failure(f"{found.path}: {error}")
        if edited.count == 0:
            return f"{found.path} is so already: nothing was changed."
        data = _encoded(edited.text)
        if data is None:
            return failure("new_string is not valid Unicode.")
        await workspace.files.write(found.path, data, expected_sha256=found.sha256)
        places = "one place" if edited.count == 1 else f"{edited.count} places"
        return f"Edited {found.path} in {places}."

    async def patch(self, asked: ApplyPatch, place: ToolPlace) -> Answer:
        """Plan all changes in memory, then write them."""
        workspace = await self._places.writable(place)
        try:
            patches = parse(asked.patch)
            planned = [await _planned(workspace.files, one) for one in patches]
        except PatchRefused as error:
            return failure(str(error))
        changes = [one for one in planned if one is not None]
        if not changes:
            return "All of it is so already: nothing was changed."
        if any(_encoded(one.after) is None for one in changes):
            return failure("The patch is not valid Unicode.")
        await _write_all(workspace.files, changes)
        return "\n".join(one.told for one in changes)

    async def list(self, asked: ListFiles, place: ToolPlace) -> Answer:
        """Return paths, directories with a slash at their end."""
        workspace = await self._places.at(place)
        listing = await workspace.files.list(relative(asked.path), recursive=asked.recursive)
        entries = [
            entry
            for entry in listing.entries
            if not asked.pattern
            or fnmatchcase(entry.path, asked.pattern)
            or fnmatchcase(entry.name, asked.pattern)
        ]
        if not entries:
            return "[Nothing there.]"
        lines = [_shown(entry) for entry in entries[: asked.limit]]
        if len(entries) > asked.limit or listing.truncated:
            more = "more than " if listing.truncated else ""
            lines.append(
                f"[{len(lines)} of {more}{len(entries)} shown. Name a directory, give a pattern, "
                "or raise limit.]"
            )
        return "\n".join(lines)

    async def move(self, asked: MoveFile, place: ToolPlace) -> Answer:
        """Move a file or directory."""
        workspace = await self._places.writable(place)
        moved = await workspace.files.rename(relative(asked.source), relative(asked.target))
        return f"Moved {relative(asked.source)} to {moved.path}."

    async def delete(self, asked: DeleteFile, place: ToolPlace) -> Answer:
        """Delete a file or directory."""
        workspace = await self._places.writable(place)
        path = relative(asked.path)
        most = place.most_deleted_mb
        if most is not None and await _size(workspace.files, path) > most * _MEGABYTE:
            return failure(
                f"{path} is more than the {most:g} MB that you may delete at once "
                "(risk_rules: max_file_delete_mb)."
            )
        await workspace.files.delete(path, recursive=asked.recursive)
        return f"Deleted {path}."


async def _size(files: FileTree, path: str) -> int:
    """Return the bytes of a file, or of what a directory holds."""
    entry = await files.stat(path)
    if entry.type is not EntryType.DIRECTORY:
        return entry.size
    listing = await files.list(path, recursive=True, limit=_MOST_MEASURED)
    return sum(one.size for one in listing.entries)


async def _planned(files: FileTree, patch: FilePatch) -> _Planned | None:
    """Return what a file becomes; None where it is so already. Raises `PatchRefused`."""
    path = relative(patch.path)
    try:
        found = await files.read(path)
    except NotFound:
        patched = apply(patch, None)
        return _Planned(path=path, before=None, sha256=None, after=patched.text, already=())
    if found.text is None:
        raise PatchRefused(f"{path} is not text: it cannot be patched.")
    patched = await asyncio.to_thread(apply, patch, found.text)
    if not patched.changed:
        return None
    return _Planned(
        path=path,
        before=found.text,
        sha256=found.sha256,
        after=patched.text,
        already=patched.already,
    )


async def _write_all(files: FileTree, changes: list[_Planned]) -> None:
    """Write all, or put back what was written. Raises what the one that failed raised."""
    done: list[tuple[_Planned, str]] = []
    for change in changes:
        try:
            written = await files.write(
                change.path, change.after.encode(), expected_sha256=change.sha256
            )
        except ConclaveError as error:
            stays = [one.path for one, sha in reversed(done) if not await _undone(files, one, sha)]
            if stays:
                error.message = f"{sentence(error)}; these stay changed: {', '.join(stays)}"
            raise
        done.append((change, written.sha256))


async def _undone(files: FileTree, change: _Planned, sha256: str) -> bool:
    """Put a file back as it was, unless somebody else has changed it since."""
    try:
        if change.before is None:
            await files.delete(change.path)
        else:
            await files.write(change.path, change.before.encode(), expected_sha256=sha256)
    except ConclaveError:
        return False
    return True


def _numbered(lines: list[str], offset: int, limit: int) -> str:
    shown: list[str] = []
    size = 0
    for number, line in enumerate(lines[offset - 1 : offset - 1 + limit], offset):
        text = line.removesuffix("\r")
        if len(text) > _LONGEST_LINE:
            text = f"{text[:_LONGEST_LINE]} [line cut: {len(text)} characters]"
        size += len(text) + 8
        if shown and size > MOST_CHARACTERS:
            break
        shown.append(f"{number:>6}\t{text}")
    last = offset + len(shown) - 1
    if offset == 1 and last == len(lines):
        return "\n".join(shown)
    rest = f" Go on with offset={last + 1}." if last < len(lines) else ""
    return "\n".join([*shown, f"[Lines {offset} to {last} of {len(lines)}.{rest}]"])


def _shown(entry: Entry) -> str:
    if entry.type is EntryType.DIRECTORY:
        return f"{entry.path}/"
    if entry.type is EntryType.FILE:
        return f"{entry.path} ({entry.size})"
    return f"{entry.path} [{entry.type.value}, not followed]"


def _encoded(text: str) -> bytes | None:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return None

"""Searching the workspace, in the sandbox: a pattern that never ends is ended with it.

ripgrep where the sandbox has it, else grep. Where nothing may run at all, plain texts only are
looked for, here and for a limited time: Python's own patterns can take for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from fnmatch import fnmatchcase

from pydantic import Field, ValidationError

from conclave.errors import ConclaveError, SandboxRefused
from conclave.ports.tools import Sandbox
from conclave.ports.workspaces import FileTree, Workspace
from conclave.tools.builtin.definition import Answer, Arguments, define, failure, first_flaw
from conclave.tools.builtin.places import Places, relative
from conclave.tools.toolbox import BuiltTool
from schema.domain.sandbox import SandboxCommand, SandboxConfig, SandboxResult, WorkspaceMode
from schema.domain.tools import Effect, ToolCategory, ToolPlace
from schema.domain.workspaces import EntryType

_SECONDS = 20
_WALK_SECONDS = 10.0
_MOST_WALKED = 1024 * 1024
_MOST_MATCHES = 500
_LONGEST_LINE = 300
_PER_FILE = 50
_MISSING = 127
_FAILED = 2


class SearchFiles(Arguments):
    """Of `search_files`."""

    pattern: str = Field(
        description="A regular expression, such as def \\w+_id\\(; with literal a plain text.",
        min_length=1,
        max_length=1000,
        examples=["note"],
    )
    path: str = Field(default="", max_length=4096, description="File or directory; empty: all.")
    glob: str = Field(default="", max_length=200, description="Only files like this, as *.py.")
    literal: bool = Field(default=False, description="The pattern is a plain text.")
    ignore_case: bool = Field(default=False, description="Capitals do not matter.")
    limit: int = Field(default=100, ge=1, le=_MOST_MATCHES, description="How many lines at most.")


class SearchTools:
    """`search_files`."""

    def __init__(self, places: Places, sandbox: Sandbox) -> None:
        self._places = places
        self._sandbox = sandbox

    def tools(self) -> list[BuiltTool]:
        """Return it."""
        return [
            define(
                "search_files",
                "Search the files of the workspace for a regular expression, line by line. "
                "Answers path:line:text. What .gitignore names is left out.",
                self.search,
                SearchFiles,
                effect=Effect.READ,
                category=ToolCategory.SEARCH,
                timeout_seconds=60,
                is_reading=True,
            )
        ]

    async def search(self, asked: SearchFiles, place: ToolPlace) -> Answer:
        """Return the lines that match."""
        workspace = await self._places.at(place)
        path = relative(asked.path)
        if path:
            await workspace.files.stat(path)
        config = (await self._places.rules.get()).model_copy(
            update={
                "timeout_seconds": _SECONDS,
                "network_enabled": False,
                "workspace_mode": WorkspaceMode.READ_ONLY,
            }
        )
        try:
            for argv in (_ripgrep(asked, path), _grep(asked, path)):
                result = await self._run(argv, workspace, config)
                if result.exit_code != _MISSING:
                    return _answer(result, asked.limit)
        except SandboxRefused as refused:
            if not asked.literal:
                return failure(
                    f"{refused.message} Without a sandbox only plain texts are searched for: set "
                    "literal."
                )
        except ValidationError as error:
            return failure(f"It cannot be searched: {first_flaw(error)}")
        return await _walk(workspace.files, asked, path)

    async def _run(
        self, argv: Sequence[str], workspace: Workspace, config: SandboxConfig
    ) -> SandboxResult:
        command = SandboxCommand(argv=tuple(argv), workspace=str(workspace.path))
        return await self._sandbox.run(command, config)


def _ripgrep(asked: SearchFiles, path: str) -> list[str]:
    argv = [
        *("rg", "--no-config", "--color=never", "--no-heading", "--with-filename"),
        *("--line-number", "--null", "--hidden", "--no-require-git", "--sort=path"),
        *(f"--max-columns={_LONGEST_LINE}", "--max-columns-preview"),
        f"--max-count={_PER_FILE}",
    ]
    if asked.literal:
        argv.append("--fixed-strings")
    if asked.ignore_case:
        argv.append("--ignore-case")
    if asked.glob:
        argv.append(f"--glob={asked.glob}")
    return [*argv, f"--regexp={asked.pattern}", "--", f"./{path}"]


def _grep(asked: SearchFiles, path: str) -> list[str]:
    argv = ["grep", "-rnIH", "--null", f"--max-count={_PER_FILE}", "--color=never"]
    argv.append("-F" if asked.literal else "-E")
    if asked.ignore_case:
        argv.append("-i")
    if asked.glob:
        argv.append(f"--include={asked.glob}")
    return [*argv, "-e", asked.pattern, "--", f"./{path}"]


def _answer(result: SandboxResult, limit: int) -> Answer:
    if result.exit_code == _FAILED and not result.stdout:
        return failure(f"The search failed: {result.stderr.strip()[:1000]}")
    lines = [_line(line) for line in result.stdout.split("\n") if line]
    is_cut = result.stdout_truncated or result.exit_code is None
    if result.stdout_truncated and lines:
        lines.pop()  # in the middle
    if not lines and result.exit_code is None:
        return failure("The search took too long. Name a directory or a simpler pattern.")
    return _listed(lines, limit, is_cut=is_cut)


def _line(found: str) -> str:
    """Return path:line:text; a NUL, shown as a replacement character, ends the path."""
    path, separator, rest = found.partition("\N{REPLACEMENT CHARACTER}")
    if not separator:
        path, _, rest = found.partition("\x00")
    return f"{path.removeprefix('./')}:{rest[: _LONGEST_LINE + 100]}"


def _listed(lines: Sequence[str], limit: int, *, is_cut: bool) -> str:
    if not lines:
        return "[No line matches.]"
    shown = "\n".join(lines[:limit])
    if len(lines) <= limit and not is_cut:
        return shown
    more = "more than " if is_cut else ""
    return (
        f"{shown}\n[{min(limit, len(lines))} of {more}{len(lines)} lines shown, at most "
        f"{_PER_FILE} of a file. Name a directory, a glob or a closer pattern.]"
    )


async def _walk(files: FileTree, asked: SearchFiles, path: str) -> Answer:
    """Look for a plain text in files of moderate size, as far as the time goes."""
    wanted = asked.pattern.casefold() if asked.ignore_case else asked.pattern
    found: list[str] = []
    try:
        async with asyncio.timeout(_WALK_SECONDS):
            for name, size in await _names(files, path):
                base = name.rpartition("/")[2]
                if size > _MOST_WALKED or (asked.glob and not fnmatchcase(base, asked.glob)):
                    continue
                found += await _matches(files, name, wanted, ignore_case=asked.ignore_case)
                if len(found) > asked.limit:
                    break
    except TimeoutError:
        return _listed(found, asked.limit, is_cut=True)
    return _listed(found, asked.limit, is_cut=False)


async def _names(files: FileTree, path: str) -> list[tuple[str, int]]:
    if path and (one := await files.stat(path)).type is EntryType.FILE:
        return [(one.path, one.size)]
    listing = await files.list(path, recursive=True)
    return [(one.path, one.size) for one in listing.entries if one.type is EntryType.FILE]


async def _matches(files: FileTree, name: str, wanted: str, *, ignore_case: bool) -> list[str]:
    try:
        text = (await files.read(name)).text
    except ConclaveError:
        return []  # it went away, or is not to be opened
    if text is None:
        return []
    lines = [
        f"{name}:{number}:{line[:_LONGEST_LINE]}"
        for number, line in enumerate(text.split("\n"), 1)
        if wanted in (line.casefold() if ignore_case else line)
    ]
    return lines[:_PER_FILE]

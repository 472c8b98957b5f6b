"""Running the git program: bounded in time and output, gone with whoever asked for it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from conclave.adapters.git.environment import ConfigPairs, closed_environment
from conclave.adapters.git.errors import GitBusy, GitMissing, GitOutputTooLarge
from conclave.ports.workspaces import ProgressSink

OLDEST = (2, 38)
"""`merge-tree --write-tree` is of 2.38, `http.curloptResolve` of 2.37: before that a pinned
address would silently not be pinned."""
OUTPUT_BYTES = 8 * 1024 * 1024
_ERROR_BYTES = 64 * 1024
_CHUNK = 64 * 1024
_GRACE_SECONDS = 2.0
_LINE_END = re.compile(rb"[\r\n]")


@dataclass(frozen=True)
class Call:
    """One run of git. `git_dir` and `tree` are named on the command line, whatever lies there."""

    arguments: Sequence[str]
    git_dir: Path
    tree: Path
    timeout: float = 60.0
    input: bytes | None = None
    config: ConfigPairs = ()
    environment: dict[str, str] = field(default_factory=dict[str, str])
    progress: ProgressSink | None = None
    held: Sequence[int] = ()
    """Descriptors the process inherits: a lock among them is held until it is really gone."""
    most: int = OUTPUT_BYTES


@dataclass(frozen=True)
class Output:
    """What a run of git left."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Standard output, without the line's end."""
        return self.out.decode("utf-8", "replace").rstrip("\n")


def find_git() -> tuple[str, tuple[int, ...]]:
    """Return git's path and version. Raises `GitMissing` with a sentence."""
    path = shutil.which("git")
    if path is None:
        raise GitMissing("The program `git` is not installed: projects have no checkouts without")
    said = subprocess.run(
        [path, "--version"],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
        env={"LC_ALL": "C"},
    ).stdout
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", said)
    numbers = found.groups(default="0") if found else ("0", "0", "0")
    version = tuple(map(int, numbers))
    if version < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        shown = ".".join(map(str, version))
        raise GitMissing(f"git {shown} is too old: {wanted} or later is needed")
    return path, version


class GitProgram:
    """Runs git in the closed environment.

    `protocols` are the transports that git may use at all.
    """

    def __init__(
        self,
        protocols: Collection[str] = ("https",),
        find: Callable[[], tuple[str, tuple[int, ...]]] = find_git,
    ) -> None:
        self._protocols = frozenset(protocols)
        self._find = find
        self._path: str | None = None

    async def run(self, call: Call) -> Output:
        """Run to the end, whatever the exit status.

        Raises `GitMissing`, `GitBusy` after `call.timeout` seconds, `GitOutputTooLarge` beyond
        `call.most` bytes. The whole process group is ended in each case, and when cancelled.
        """
        if self._path is None:
            self._path, _ = await asyncio.to_thread(self._find)
        where = [f"--git-dir={call.git_dir}", f"--work-tree={call.tree}"]
        process = await asyncio.create_subprocess_exec(
            self._path,
            "--no-pager",
            *where,
            *call.arguments,
            stdin=asyncio.subprocess.PIPE if call.input is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=call.tree,
            env=closed_environment(self._protocols, call.config, call.environment),
            start_new_session=True,
            pass_fds=tuple(call.held),
        )
        try:
            async with asyncio.timeout(call.timeout):
                return await _finish(process, call)
        except TimeoutError:
            what = call.arguments[0]
            raise GitBusy(f"git {what} took longer than {call.timeout:.0f} seconds") from None
        finally:
            await asyncio.shield(_end(process))


async def _finish(process: asyncio.subprocess.Process, call: Call) -> Output:
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.TaskGroup() as tasks:
        out = tasks.create_task(_read(process, process.stdout, call.most))
        err = tasks.create_task(_read_lines(process.stderr, call.progress))
        if call.input is not None:
            tasks.create_task(_feed(process, call.input))
    if out.result() is None:
        raise GitOutputTooLarge(f"git {call.arguments[0]} answers more than {call.most} bytes")
    return Output(await process.wait(), out.result() or b"", err.result())


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _read(
    process: asyncio.subprocess.Process, stream: asyncio.StreamReader, most: int
) -> bytes | None:
    """Return all of it; None once there is more than that, which ends git."""
    pieces = bytearray()
    while piece := await stream.read(_CHUNK):
        pieces += piece
        if len(pieces) > most:
            _signal(process.pid, signal.SIGKILL)
            return None
    return bytes(pieces)


async def _read_lines(stream: asyncio.StreamReader, progress: ProgressSink | None) -> str:
    """Return the end of what was said; progress, whose lines end with CR, is told and left out."""
    kept = bytearray()
    pending = b""
    while piece := await stream.read(_CHUNK):
        *lines, pending = _LINE_END.split(pending + piece)
        for line in lines:
            if progress is not None and line.strip():
                progress(line.decode("utf-8", "replace").strip()[:200])
            kept += line + b"\n"
        del kept[:-_ERROR_BYTES]
        pending = pending[-_ERROR_BYTES:]
    return (kept + pending).decode("utf-8", "replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the group: asked first, so that git takes its lock files away, killed a moment later."""
    if process.returncode is None:
        _signal(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS):
                await process.wait()
    _signal(process.pid, signal.SIGKILL)
    await process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)

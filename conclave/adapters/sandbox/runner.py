"""Runs one command through the launcher: feeds it, keeps its output in bounds, sees it gone."""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from conclave.adapters.sandbox.plan import Limits, Plan
from conclave.errors import Unavailable
from schema.domain.sandbox import KilledBy, SandboxResult

_ROOT = str(Path(__file__).parents[3])
_START = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from conclave.adapters.sandbox.launcher import main; "
    "main(*map(int, sys.argv[2:]))"
)
_CHUNK = 64 * 1024
_GRACE_SECONDS = 10.0


@dataclass
class _Kept:
    """One stream: what is kept of it and whether that is all."""

    data: bytearray
    size: int = 0

    @property
    def is_truncated(self) -> bool:
        return self.size > len(self.data)

    @property
    def text(self) -> str:
        # A character cut in two at the end is no character.
        return self.data.decode("utf-8", "replace").replace("\0", "\ufffd")


async def run_plan(plan: Plan, stdin: bytes | None, limits: Limits) -> SandboxResult:
    """Run a command to its end, or to that of its caller; nothing of it is left afterwards.

    Raises `Unavailable` where the sandbox could not be set up.
    """
    started = time.monotonic()
    process, report, stop = await _start(plan, has_input=stdin is not None)
    running = _Running(process, stop, limits)
    try:
        async with asyncio.timeout(plan["wall_seconds"] + _GRACE_SECONDS):
            await running.to_the_end(stdin)
    except TimeoutError:  # the launcher itself hangs
        running.killed_by = KilledBy.TIME
    finally:
        await asyncio.shield(running.see_gone())
        outcome = _read_all(report)
    duration_ms = int((time.monotonic() - started) * 1000)
    return _result(outcome, running, duration_ms)


async def _start(plan: Plan, *, has_input: bool) -> tuple[asyncio.subprocess.Process, int, int]:
    """Start the launcher; the descriptors are its report's, and the one whose closing ends it."""
    report, say_report = os.pipe()
    told_to_stop, stop = os.pipe()
    plan_handle = os.memfd_create("plan")
    os.write(plan_handle, marshal.dumps(dict(plan)))
    os.lseek(plan_handle, 0, os.SEEK_SET)
    numbers = [str(number) for number in (plan_handle, say_report, told_to_stop, os.getpid())]
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _START, _ROOT, *numbers),
            stdin=pipe if has_input else asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            env={},
            cwd="/",
            pass_fds=(plan_handle, say_report, told_to_stop),
            start_new_session=True,
        )
    except BaseException:
        os.close(report)
        os.close(stop)
        raise
    finally:
        os.close(plan_handle)
        os.close(say_report)
        os.close(told_to_stop)
    return process, report, stop


class _Running:
    """A started launcher."""

    def __init__(self, process: asyncio.subprocess.Process, stop: int, limits: Limits) -> None:
        self._process = process
        self._stop: int | None = stop
        self._limits = limits
        self.stdout = _Kept(bytearray())
        self.stderr = _Kept(bytearray())
        self.killed_by: KilledBy | None = None

    async def to_the_end(self, stdin: bytes | None) -> None:
        process = self._process
        assert process.stdout is not None
        assert process.stderr is not None
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep(process.stdout, self.stdout))
            group.create_task(self._keep(process.stderr, self.stderr))
            if stdin is not None and process.stdin is not None:
                group.create_task(_feed(process.stdin, stdin))
            group.create_task(process.wait())

    async def _keep(self, stream: asyncio.StreamReader, kept: _Kept) -> None:
        while chunk := await stream.read(_CHUNK):
            kept.size += len(chunk)
            kept.data += chunk[: max(self._limits.output_kept - len(kept.data), 0)]
            is_flood = self.stdout.size + self.stderr.size > self._limits.output_flood
            if is_flood and self.killed_by is None:
                self.killed_by = KilledBy.OUTPUT
                self._ask_to_end()

    def _ask_to_end(self) -> None:
        if self._stop is not None:
            os.close(self._stop)
            self._stop = None

    async def see_gone(self) -> None:
        """End what still runs and wait until nothing of it is left."""
        self._ask_to_end()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _GRACE_SECONDS)
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()  # what it started dies with it
        await self._process.wait()


async def _feed(stream: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
        stream.close()
        await stream.wait_closed()


def _read_all(report: int) -> dict[str, object] | None:
    with os.fdopen(report, "rb") as file:
        os.set_blocking(report, False)
        data = file.read()
    return cast("dict[str, object]", marshal.loads(data)) if data else None


def _result(
    outcome: dict[str, object] | None, running: _Running, duration_ms: int
) -> SandboxResult:
    if running.killed_by is None and (outcome is None or "error" in outcome):
        last_words = running.stderr.text.strip().splitlines()[-1:] or ["its launcher died"]
        reason = last_words[0] if outcome is None else str(outcome["error"])
        raise Unavailable(f"The sandbox could not be set up: {reason}.")
    killed_by, code = running.killed_by, None
    if outcome is not None and killed_by is None:
        reason = cast("str | None", outcome["killed_by"])
        killed_by = KilledBy(reason) if reason else None
        code = None if reason else cast("int", outcome["exit_code"])
    if code is not None and 128 < code < 160:
        killed_by = KilledBy.SIGNAL
    return SandboxResult(
        exit_code=code,
        stdout=running.stdout.text,
        stderr=running.stderr.text,
        stdout_truncated=running.stdout.is_truncated,
        stderr_truncated=running.stderr.is_truncated,
        timed_out=killed_by is KilledBy.TIME,
        killed_by=killed_by,
        duration_ms=duration_ms,
    )

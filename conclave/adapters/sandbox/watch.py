"""Looks at a running sandbox and says which limit it has passed, if any.

The kernel's own limits hold for single processes and files; these hold for all of them together.
Runs in the launcher: nothing heavy is imported.
"""

from __future__ import annotations

import os
import time
from _stat import S_ISDIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conclave.adapters.sandbox.plan import Plan

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")
_INODE_BYTES = 1024  # what an empty file on a tmpfs costs the kernel
_COUNT_EVERY_SECONDS = 1.0
_CLOCK_SLACK_SECONDS = 0.02  # file systems keep a coarser clock
_OURS = 16 << 20  # the sandbox's first process is not the command's


class Process:
    """What one look at /proc shows of a process."""

    def __init__(self, name: str, stat: str) -> None:
        self.name = name
        # after the program's name, which may hold anything: state, ppid, ...
        fields = stat[stat.rindex(")") + 2 :].split()
        self.cpu_seconds = sum(int(field) for field in fields[11:15]) / _TICK
        self.threads = int(fields[17])
        self.resident = int(fields[21]) * _PAGE


class Watch:
    """The limits of one command."""

    def __init__(self, plan: Plan, workspace: int) -> None:
        self._plan = plan
        self._workspace = workspace
        self._disk = os.statvfs(workspace)
        self._began = time.time() - _CLOCK_SLACK_SECONDS
        self._next_count = time.monotonic() + _COUNT_EVERY_SECONDS

    def verdict(self, proc: int, names: list[str], scratch: list[int]) -> str | None:
        """Judge the processes `names` of the /proc at `proc`; `scratch` are their tmpfs mounts."""
        processes = [one for name in names if (one := look(proc, name)) is not None]
        plan = self._plan
        if sum(one.threads for one in processes) > plan["processes"]:
            return "processes"
        if sum(one.cpu_seconds for one in processes) > plan["cpu_seconds"]:
            return "time"
        if self._memory(proc, processes, scratch) > plan["memory_bytes"] + _OURS:
            return "memory"
        return "disk" if self._disk_is_filling() and self._has_overfilled() else None

    def _memory(self, proc: int, processes: list[Process], scratch: list[int]) -> int:
        held = 0
        for handle in scratch:
            status = os.fstatvfs(handle)
            held += (status.f_blocks - status.f_bfree) * status.f_frsize
            held += (status.f_files - status.f_ffree) * _INODE_BYTES
        resident = sum(one.resident for one in processes)
        if held + resident <= self._plan["memory_bytes"] + _OURS:
            return held + resident
        # Pages shared between them were counted again and again: look closely.
        return held + sum(_own_share(proc, one) for one in processes)

    def _disk_is_filling(self) -> bool:
        """Ask the file system, which is cheap.

        Others may be filling it too, or emptying it, so now and then the answer is yes anyway.
        """
        if time.monotonic() >= self._next_count:
            return True
        now, plan = os.fstatvfs(self._workspace), self._plan
        used = (self._disk.f_bfree - now.f_bfree) * now.f_frsize
        files = self._disk.f_ffree - now.f_ffree
        return used > plan["disk_bytes"] // 2 or files > plan["disk_files"] // 2

    def _has_overfilled(self) -> bool:
        """Count what changed in the workspace since the command began."""
        size, count, started = 0, 0, time.monotonic()
        has_shut = self._is_shut(os.stat(self._workspace))
        for _, directories, files, handle in os.fwalk(".", dir_fd=self._workspace):
            for name in (*directories, *files):
                try:
                    status = os.stat(name, dir_fd=handle, follow_symlinks=False)
                except OSError:
                    continue
                if status.st_ctime >= self._began:
                    size += status.st_blocks * 512
                    count += 1
                    has_shut = has_shut or self._is_shut(status)
        now = time.monotonic()
        self._next_count = now + max(_COUNT_EVERY_SECONDS, 20 * (now - started))
        return has_shut or size > self._plan["disk_bytes"] or count > self._plan["disk_files"]

    def _is_shut(self, status: os.stat_result) -> bool:
        """Say whether the command has shut this directory, to hide what is in it."""
        is_open = status.st_mode & 0o500 == 0o500 or not S_ISDIR(status.st_mode)
        return not is_open and status.st_ctime >= self._began


def look(proc: int, name: str) -> Process | None:
    """Look at one process; None where it has gone."""
    stat = read(proc, f"{name}/stat")
    return None if stat is None else Process(name, stat)


def read(proc: int, path: str) -> str | None:
    """Read a file under /proc."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    except OSError:
        return None
    try:
        return os.read(handle, 8192).decode(errors="replace")
    except OSError:
        return None
    finally:
        os.close(handle)


def descendants(proc: int, pid: int) -> list[str]:
    """Return the processes below `pid`; a fork in the same moment may be missed."""
    found: list[str] = []
    waiting = [str(pid)]
    while waiting:
        name = waiting.pop()
        children = (read(proc, f"{name}/task/{name}/children") or "").split()
        found += children
        waiting += children
    return found


def _own_share(proc: int, process: Process) -> int:
    """Return its anonymous and shared memory, each page divided by those who share it."""
    text = read(proc, f"{process.name}/smaps_rollup")
    if text is None or "Pss_Anon:" not in text:  # it has ended meanwhile, or will not be looked at
        now = look(proc, process.name)
        return 0 if now is None else now.resident
    lines = (line.split() for line in text.splitlines())
    return 1024 * sum(int(line[1]) for line in lines if line[0] in {"Pss_Anon:", "Pss_Shmem:"})

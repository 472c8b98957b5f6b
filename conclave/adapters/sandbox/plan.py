"""What the service hands to the launcher: everything decided, nothing left to look up."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from conclave.errors import Invalid
from schema.domain.sandbox import SandboxCommand, SandboxConfig, WorkspaceMode

WORKSPACE = "/workspace"
INSIDE_ID = 65534
"""The user and group a command sees itself as."""
ROOT_STAND_IN = 64917
"""Whom the launcher becomes where the service runs as root: an id that nobody else has."""

_MIB = 1024**2
_PROGRAM_PATHS = ("/usr/local/bin", "/usr/bin", "/bin")
_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = ("ssl/certs", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime")
_FILES = (
    (
        "/etc/passwd",
        b"root:x:0:0:root:/root:/usr/sbin/nologin\nagent:x:65534:65534:agent:/tmp:/bin/sh\n",
    ),
    ("/etc/group", b"root:x:0:\nagent:x:65534:\n"),
    ("/etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n"),
    ("/etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files\n"),
)

Mount = tuple[str, str, bool, bool]
"""(source, target, writable, whether only the service's own user may be able to reach it)."""


@dataclass(frozen=True)
class Limits:
    """What every command is held to, besides what the configuration says."""

    processes: int = 128
    """Threads count as well."""
    open_files: int = 1024
    file_bytes: int = 100 * _MIB
    disk_bytes: int = 1024 * _MIB
    """What a command may add to its workspace."""
    disk_files: int = 50_000
    tmp_bytes: int = 256 * _MIB
    """/tmp and /dev/shm each; they count as memory too."""
    output_kept: int = 200_000
    """Bytes of each stream; the rest is read and dropped."""
    output_flood: int = 50_000_000
    """Bytes of both streams that end the command."""


class Plan(TypedDict):
    """What the launcher reads."""

    backend: str
    bwrap: str
    disable_userns: bool
    argv: list[str]
    env: dict[str, str]
    cwd: str
    mounts: list[Mount]
    links: list[tuple[str, str]]
    """(target, link)"""
    files: list[tuple[str, bytes]]
    hidden: list[str]
    """Directories covered by an empty one."""
    become: int
    """-1 keeps the user."""
    inside_id: int
    workspace: str
    """On the host."""
    memory_bytes: int
    cpus: int
    cpu_seconds: float
    wall_seconds: float
    processes: int
    open_files: int
    file_bytes: int
    disk_bytes: int
    disk_files: int
    tmp_bytes: int


@dataclass(frozen=True)
class Backend:
    """How commands are confined."""

    name: str
    bwrap: str = ""
    disable_userns: bool = False


def plan(
    backend: Backend,
    command: SandboxCommand,
    config: SandboxConfig,
    limits: Limits,
    hidden: Sequence[Path],
) -> Plan:
    """Decide everything.

    Raises `Invalid` where the workspace or the directory in it will not do.
    """
    workspace = _directory("workspace", Path(command.workspace))
    cwd = _directory("cwd", workspace / command.cwd)
    if not cwd.is_relative_to(workspace):
        raise Invalid("cwd", "The directory lies outside the workspace.")
    system, links, program_paths = _system()
    writable = config.workspace_mode is WorkspaceMode.READ_WRITE
    extras = [(str(_existing(path)), path, False, True) for path in command.read_only]
    is_bare = backend.name == "unsandboxed"
    return Plan(
        backend=backend.name,
        bwrap=backend.bwrap,
        disable_userns=backend.disable_userns,
        argv=list(command.argv),
        env=_environment(program_paths, command.env),
        cwd=str(cwd) if is_bare else str(Path(WORKSPACE) / cwd.relative_to(workspace)),
        mounts=[*system, *extras, (str(workspace), WORKSPACE, writable, True)],
        links=links,
        files=list(_FILES),
        hidden=_hidden(hidden, workspace, [target for _, target, _, _ in (*system, *extras)]),
        become=ROOT_STAND_IN if os.geteuid() == 0 and not is_bare else -1,
        inside_id=INSIDE_ID,
        workspace=str(workspace),
        memory_bytes=config.memory_bytes,
        cpus=math.ceil(config.cpu_quota),
        cpu_seconds=config.timeout_seconds * config.cpu_quota,
        wall_seconds=float(config.timeout_seconds),
        processes=limits.processes,
        open_files=limits.open_files,
        file_bytes=limits.file_bytes,
        disk_bytes=limits.disk_bytes,
        disk_files=limits.disk_files,
        tmp_bytes=min(limits.tmp_bytes, config.memory_bytes),
    )


def _directory(field: str, path: Path) -> Path:
    try:
        resolved = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise Invalid(field, "There is no such directory.") from error
    if not resolved.is_dir() or resolved == Path("/"):
        raise Invalid(field, "That is not a directory a command may run in.")
    return resolved


def _existing(path: str) -> Path:
    try:
        return Path(path).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise Invalid("read_only", f"There is nothing at {path}.") from error


def _system() -> tuple[list[Mount], list[tuple[str, str]], list[str]]:
    """Return what a command needs of the system, its links, and where its programs are."""
    mounts: list[Mount] = [("/usr", "/usr", False, False)]
    links: list[tuple[str, str]] = []
    for name in _TOP:
        path = f"/{name}"
        if os.path.islink(path):
            links.append((os.readlink(path), path))
        elif os.path.isdir(path):
            mounts.append((path, path, False, False))
    for name in _ETC:
        path = f"/etc/{name}"
        if os.path.exists(path):
            mounts.append((os.path.realpath(path), path, False, False))
    programs: list[str] = [*_PROGRAM_PATHS]
    if not any(os.path.exists(f"{path}/python3") for path in programs):
        mounts.append((sys.base_prefix, sys.base_prefix, False, True))
        programs.append(f"{sys.base_prefix}/bin")
    return mounts, links, programs


def _environment(program_paths: Sequence[str], extras: dict[str, str]) -> dict[str, str]:
    return {
        "PATH": ":".join(program_paths),
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "USER": "agent",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        **extras,
    }


def _hidden(paths: Sequence[Path], workspace: Path, visible: Sequence[str]) -> list[str]:
    """Say where `paths` would show inside, if anywhere."""
    covered: list[str] = []
    for path in (path.resolve() for path in paths):
        if path != workspace and path.is_relative_to(workspace) and path.is_dir():
            covered.append(str(Path(WORKSPACE) / path.relative_to(workspace)))
        if path.is_dir() and any(path.is_relative_to(target) for target in visible):
            covered.append(str(path))
    return covered

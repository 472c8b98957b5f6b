"""The sandbox for commands that agents run: what it allows, what is run, what came of it."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from schema.domain.base import Shape

_UNITS = {"k": 1024, "m": 1024**2, "g": 1024**3}
_MEMORY = re.compile(r"([0-9]{1,12})([kmg]?)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_SMALLEST, _LARGEST = 16 * 1024**2, 64 * 1024**3
_MAX_ARGUMENT = 128 * 1024 - 1  # the kernel's own bound on one argument
_MAX_ARGUMENTS = 1024**2


def memory_bytes(text: str) -> int:
    """Return what "512m" means. Raises ValueError for anything else than a number and k, m or g."""
    match = _MEMORY.fullmatch(text.lower())
    if match is None:
        raise ValueError("must be a number of bytes with k, m or g, such as 512m")
    return int(match[1]) * _UNITS.get(match[2], 1)


def _memory_in_range(text: str) -> str:
    if not _SMALLEST <= memory_bytes(text) <= _LARGEST:
        raise ValueError("must be from 16m to 64g")
    return text.lower()


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    return text


_Text = Annotated[str, AfterValidator(_no_nul)]


class WorkspaceMode(StrEnum):
    """Whether a command may change its workspace."""

    READ_WRITE = "rw"
    READ_ONLY = "ro"


class SandboxConfig(Shape):
    """What an administrator sets, as the contract has it (gateway.md)."""

    enabled: bool = True
    memory_limit: Annotated[str, Field(max_length=16), AfterValidator(_memory_in_range)] = "512m"
    """For all processes of a command together."""
    cpu_quota: float = Field(default=1.0, ge=0.1, le=64)
    """Processors, parts of one too."""
    timeout_seconds: int = Field(default=30, ge=1, le=600)
    network_enabled: bool = False
    workspace_mode: WorkspaceMode = WorkspaceMode.READ_WRITE

    @property
    def memory_bytes(self) -> int:
        """Return the memory limit in bytes."""
        return memory_bytes(self.memory_limit)


class SandboxCommand(Shape):
    """One command. Inside, the workspace is /workspace."""

    argv: tuple[_Text, ...] = Field(min_length=1, max_length=4096)
    workspace: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_no_nul)]
    """The workspace's root on this host, absolute."""
    cwd: Annotated[str, Field(max_length=4096), AfterValidator(_no_nul)] = "."
    """Relative to the workspace."""
    stdin: bytes | None = Field(default=None, max_length=1024**2)
    env: dict[str, _Text] = Field(default_factory=dict, max_length=256)
    """Besides PATH, HOME, LANG and the like; nothing of our own environment is passed on."""
    read_only: tuple[_Text, ...] = Field(default=(), max_length=64)
    """Absolute paths of this host that the command sees at the same place and cannot change."""

    @field_validator("argv")
    @classmethod
    def _can_be_run(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value[0] or value[0].startswith("-"):
            raise ValueError("must begin with a program's name, which has no leading dash")
        sizes = [len(argument.encode("utf-8", "surrogateescape")) for argument in value]
        if max(sizes) > _MAX_ARGUMENT or sum(sizes) > _MAX_ARGUMENTS:
            raise ValueError("is longer than the system takes")
        return value

    @field_validator("env")
    @classmethod
    def _are_variables(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _VARIABLE.fullmatch(name):
                raise ValueError("has a name that is no variable's")
            if len(text) > _MAX_ARGUMENT // 4:
                raise ValueError("has a value that is too long")
        return value

    @model_validator(mode="after")
    def _stay_where_they_belong(self) -> Self:
        if self.cwd.startswith("/") or ".." in self.cwd.split("/"):
            raise ValueError("cwd must stay in the workspace")
        for path in (self.workspace, *self.read_only):
            if not path.startswith("/") or ".." in path.split("/"):
                raise ValueError("paths of the host must be absolute")
        return self


class KilledBy(StrEnum):
    """What ended a command before its own end."""

    MEMORY = "memory"
    PROCESSES = "processes"
    OUTPUT = "output"
    DISK = "disk"
    """It filled its workspace: bytes or number of files."""
    TIME = "time"
    """The time on the wall, or of the processor, was used up."""
    SIGNAL = "signal"
    """A signal that was not ours; exit_code is 128 and its number, as in a shell."""


class SandboxResult(Shape):
    """What came of a command."""

    exit_code: int | None
    """None where a limit ended it."""
    stdout: str
    stderr: str
    """Text; what is not UTF-8 is replaced."""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    timed_out: bool = False
    killed_by: KilledBy | None = None
    duration_ms: int


SandboxBackend = Literal["bubblewrap", "namespaces", "unsandboxed", "none"]


class SandboxStatus(Shape):
    """What is really used on this host."""

    backend: SandboxBackend
    available: bool
    """Whether commands are run at all."""
    reason: str
    """A sentence: what is in force, and why nothing better is."""

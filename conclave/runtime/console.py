"""What the person in front of `conclave up` sees: progress, and what the children complain of."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

_COMPLAINT = re.compile(
    r"\[(warning|error|critical) *\]"  # our own, for people
    r'|"level": "(warning|error|critical)"'  # our own, as JSON
    r"|\b(WARNING|ERROR|FATAL|PANIC): "  # PostgreSQL
    r"|\blevel=(WARN|ERROR)\b"  # Temporal
    r"|^(warning|error|fatal)\b",
    re.IGNORECASE,
)
_HARMLESS = re.compile(r"Frontend is not healthy yet|GetHistory page size is larger")
"""What a server says of being asked while it starts, and of its own UI's questions."""
_LOOK_EVERY_SECONDS = 0.3
_LONGEST_LINE = 2000
_LARGEST_LOG = 50 * 1024 * 1024


def say(line: str) -> None:
    """Print a line at once; a closed terminal does not end the stack."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


class LogWatcher:
    """Shows new lines of the children's logs, and keeps the files from growing without end.

    The children write their files themselves: a slow terminal never holds them up.
    """

    def __init__(self, logs: Mapping[str, Path], *, verbose: bool) -> None:
        self._logs = logs
        self._verbose = verbose
        self._read_to = {name: _size(path) for name, path in logs.items()}
        self._in_traceback: set[str] = set()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    def look(self) -> None:
        """Show what is new."""
        for name, path in self._logs.items():
            size = _size(path)
            start = self._read_to[name]
            if size > start:
                with path.open("rb") as file:
                    file.seek(start)
                    fresh = file.read(1024 * 1024)
                whole = fresh.rfind(b"\n") + 1 or len(fresh)
                self._show(name, fresh[:whole].decode(errors="replace"))
                self._read_to[name] = start + whole
            if size > _LARGEST_LOG:
                shutil.copyfile(path, path.with_suffix(".log.1"))
                path.open("wb").close()  # children append, so they go on at the new end
                size = 0
            self._read_to[name] = min(self._read_to[name], size)

    def _show(self, name: str, text: str) -> None:
        for line in text.splitlines():
            if line.strip() and (self._verbose or self._is_complaint(name, line)):
                say(f"[{name}] {line[:_LONGEST_LINE]}")

    def _is_complaint(self, name: str, line: str) -> bool:
        """Whether to show a line; of a traceback the last one, which says what happened."""
        if line.startswith("Traceback "):
            self._in_traceback.add(name)
            return False
        if name in self._in_traceback:
            if line.startswith((" ", "\t")):
                return False
            self._in_traceback.discard(name)
            return True
        return _COMPLAINT.search(line) is not None and _HARMLESS.search(line) is None


def tail(path: Path, lines: int = 15) -> str:
    """Return the last lines of a log."""
    with contextlib.suppress(OSError):
        with path.open("rb") as file:
            file.seek(max(0, _size(path) - 16384))
            text = file.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])
    return ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0

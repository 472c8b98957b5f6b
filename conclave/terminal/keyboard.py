"""Lines from a terminal, while everything else goes on."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from dataclasses import dataclass

from conclave.terminal.cleaning import clean

_AT_ONCE = 65536
_LONGEST_ENTRY = 1024 * 1024


@dataclass(frozen=True)
class Entry:
    """What was typed; lines that were there at once (a paste) are one entry."""

    text: str


@dataclass(frozen=True)
class EndOfInput:
    """Ctrl-D, or the terminal is gone."""


class Keyboard:
    """Reads a terminal in its own line mode: editing is the terminal's, nothing is left changed."""

    def __init__(self, descriptor: int, deliver: Callable[[Entry | EndOfInput], None]) -> None:
        self._descriptor = descriptor
        self._deliver = deliver
        self._unfinished = b""

    def start(self) -> None:
        """Read from now on; another program may have had the terminal meanwhile."""
        asyncio.get_running_loop().add_reader(self._descriptor, self._on_readable)

    def stop(self) -> None:
        """Leave the terminal to others."""
        asyncio.get_running_loop().remove_reader(self._descriptor)

    def _on_readable(self) -> None:
        content = self._unfinished
        while True:
            chunk = self._read()
            content += chunk
            if not chunk:
                self.stop()
                self._deliver(EndOfInput())
                return
            if len(content) > _LONGEST_ENTRY or not self._has_more():
                break
        whole, newline, self._unfinished = content.rpartition(b"\n")
        if newline:
            self._deliver(Entry(clean(whole.decode(errors="replace"))))

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, _AT_ONCE)
        except OSError:  # the terminal hung up
            return b""

    def _has_more(self) -> bool:
        return bool(select.select([self._descriptor], [], [], 0)[0])

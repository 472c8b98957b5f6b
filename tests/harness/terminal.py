"""`conclave` as somebody runs it: at a terminal, or from a script."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.waiting import until

_ROOT = Path(__file__).parents[2]


def _environment(given: dict[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(_ROOT), "TERM": "xterm", **given}


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-P", "-m", "conclave.cli", *arguments]


async def run_conclave(
    *arguments: str, typed: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command without a terminal, to its end."""
    return await asyncio.to_thread(
        subprocess.run,
        _command(arguments),
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        env=_environment(environment),
        check=False,
    )


@dataclass
class Terminal:
    """A command at a terminal: what it shows, and a person who types."""

    process: subprocess.Popen[bytes]
    descriptor: int
    shown: bytearray = field(default_factory=bytearray)
    _seen: int = 0

    def read(self) -> None:
        """Take in what was shown."""
        try:
            self.shown += os.read(self.descriptor, 65536)
        except OSError:  # the other end is gone
            asyncio.get_running_loop().remove_reader(self.descriptor)

    @property
    def text(self) -> str:
        """All that was shown."""
        return self.shown.decode(errors="replace")

    async def shows(self, text: str, timeout: float = 20) -> None:
        """Wait until this was shown, after what was waited for before."""
        sought = text.encode()
        where = await until(
            lambda: 1 + self.shown.find(sought, self._seen),
            timeout=timeout,
            what=f"{text!r} in {self.text[-2000:]!r}",
        )
        self._seen = where - 1 + len(sought)

    def type(self, text: str) -> None:
        """Type something; without a line's end it is not sent yet."""
        os.write(self.descriptor, text.encode())

    def press_interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self.descriptor, b"\x03")

    async def ends(self) -> int:
        """Wait for the end; return the exit status."""
        await until(lambda: self.process.poll() is not None, timeout=20, what=self.text[-2000:])
        return self.process.wait()


@asynccontextmanager
async def at_a_terminal(*arguments: str, **environment: str) -> AsyncGenerator[Terminal]:
    """Run a command at a terminal of its own; kill it at the end of the block."""
    ours, theirs = pty.openpty()
    process = await asyncio.to_thread(
        lambda: subprocess.Popen(
            [sys.executable, "-c", _IN_FRONT, *_command(arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=_environment(environment),
            start_new_session=True,
        )
    )
    os.close(theirs)
    terminal = Terminal(process, ours)
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, terminal.read)
    try:
        yield terminal
    finally:
        loop.remove_reader(ours)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        os.close(ours)


_IN_FRONT = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches it
os.execv(sys.argv[1], sys.argv[1:])
"""

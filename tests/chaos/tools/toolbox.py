"""The tools of a chaos run, and the two files outside the product that they write.

`send` is `once`: it appends its text to the lines that must not be doubled. `look` is `read`. Both
take a moment before and after, so that kills strike on either side of the effect, and note in a
journal when they were entered and left, by which process.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from conclave.tools.toolbox import BuiltTool, ToolRegistry
from schema.domain.tools import Effect, Tool, ToolCategory, ToolOutcome, ToolPlace

LONGEST_SECONDS = 0.6
"""Before the effect, and after it again."""
SENT, SEEN = "sent", "seen"
_TEXT: dict[str, JsonValue] = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Note:
    """A line of the journal."""

    event: str
    """entered, left, or cut: cancelled by its own worker, which may be late and live"""
    pid: int
    tool: str
    text: str


@dataclass(frozen=True)
class Outside:
    """What no database of the product's knows of."""

    directory: Path
    longest_seconds: float = LONGEST_SECONDS

    @property
    def sent_file(self) -> Path:
        """Where `send` appends."""
        return self.directory / "sent.txt"

    @property
    def journal_file(self) -> Path:
        """Who was in which call."""
        return self.directory / "journal.txt"

    def sent(self) -> list[str]:
        """Return the lines that were sent."""
        return self.sent_file.read_text().splitlines() if self.sent_file.exists() else []

    def journal(self) -> list[Note]:
        """Return the notes in order."""
        if not self.journal_file.exists():
            return []
        notes = [line.split(" ", 3) for line in self.journal_file.read_text().splitlines()]
        return [Note(event, int(pid), tool, text) for event, pid, tool, text in notes]

    def note(self, event: str, tool: str, text: str) -> None:
        """Write a note; one write, so that a kill leaves it whole or not there."""
        _append(self.journal_file, f"{event} {os.getpid()} {tool} {text}\n")

    def in_flight(self) -> dict[int, Counter[str]]:
        """Return the calls that were entered and not left, by process and tool."""
        inside: dict[int, Counter[str]] = {}
        for note in self.journal():
            counted = inside.setdefault(note.pid, Counter())
            counted[note.tool] += 1 if note.event == "entered" else -1
        return inside

    def toolbox(self) -> ToolRegistry:
        """Return the tools as the product knows them."""
        send = _tool("send", "Sends a line. It cannot be taken back.", Effect.ONCE)
        look = _tool("look", "Looks at something.", Effect.READ)
        return ToolRegistry([BuiltTool(send, self._send), BuiltTool(look, self._look)])

    async def _send(self, arguments: Mapping[str, JsonValue], place: ToolPlace) -> ToolOutcome:
        text = str(arguments["text"])
        with self._noted("send", text):
            await self._a_moment()
            _append(self.sent_file, f"{text}\n")
            await self._a_moment()
        return ToolOutcome(content=f"{SENT} {text}")

    async def _look(self, arguments: Mapping[str, JsonValue], place: ToolPlace) -> ToolOutcome:
        text = str(arguments["text"])
        with self._noted("look", text):
            await self._a_moment()
        return ToolOutcome(content=f"{SEEN} {text}")

    @contextmanager
    def _noted(self, tool: str, text: str) -> Generator[None]:
        self.note("entered", tool, text)
        try:
            yield
        except asyncio.CancelledError:
            self.note("cut", tool, text)
            raise
        self.note("left", tool, text)

    async def _a_moment(self) -> None:
        """Take as long as a tool may: kills find it at work, before and after its effect."""
        await asyncio.sleep(random.uniform(0, self.longest_seconds))


def _append(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def _tool(name: str, description: str, effect: Effect) -> Tool:
    return Tool(
        name=name,
        description=description,
        parameters=_TEXT,
        effect=effect,
        category=ToolCategory.FILES,
        is_reading=effect is Effect.READ,
        is_dangerous=effect is Effect.ONCE,
        timeout_seconds=20,
    )

"""Tools for tests: each notes what it was asked, in memory or in a file of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from conclave.errors import Unavailable
from conclave.tools.toolbox import BuiltTool, ToolRegistry
from schema.domain.tools import Effect, Tool, ToolCategory, ToolOutcome, ToolPlace

_TEXT: dict[str, JsonValue] = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}


@dataclass
class TestTools:
    """`look` reads, `keep` is idempotent, `send` is once (it appends a line to `file`).

    `wait` is once, `peek` reads and `glimpse` is a quick one that reads: they take until `held` is
    set.
    """

    __test__ = False

    file: Path
    calls: list[tuple[str, dict[str, JsonValue]]] = field(
        default_factory=list[tuple[str, dict[str, JsonValue]]]
    )
    failures: int = 0
    """How many times `look` and `glimpse` cannot answer yet."""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self) -> None:
        """Forget everything."""
        self.calls.clear()
        self.failures = 0
        self.held = asyncio.Event()
        self.entered = asyncio.Event()
        self.file.unlink(missing_ok=True)

    def lines(self) -> list[str]:
        """Return what was sent."""
        return self.file.read_text().splitlines() if self.file.exists() else []

    def registry(self) -> ToolRegistry:
        """Return them as the product knows tools."""
        return ToolRegistry(
            [
                BuiltTool(_tool("look", Effect.READ, reading=True), self._look),
                BuiltTool(_tool("keep", Effect.IDEMPOTENT), self._keep),
                BuiltTool(_tool("send", Effect.ONCE, dangerous=True), self._send),
                BuiltTool(_tool("peek", Effect.READ, reading=True), self._peek),
                BuiltTool(_tool("glimpse", Effect.READ, reading=True, quick=True), self._glimpse),
                BuiltTool(_tool("wait", Effect.ONCE, reading=True), self._wait),
            ]
        )

    async def _look(self, arguments: Mapping[str, JsonValue], place: ToolPlace) -> ToolOutcome:
        self.calls.append(("look", dict(arguments)))
        self._fail_as_told()
        return ToolOutcome(content=f"seen {arguments['text']}")

    async def _glimpse(self, arguments: Mapping[str, JsonValue], place: ToolPlace) -> ToolOutcome:
        self.calls.append(("glimpse", dict(arguments)))
        self._fail_as_told()
        self.entered.set()
        await self.held.wait()
        return ToolOutcome(content=f"seen {arguments['text']}")

    def _fail_as_told(self) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise Unavailable("Not yet.")

    async def _keep(self, arguments: Mapping[str, JsonValue], place: ToolPlace) -> ToolOutcome:
        self.calls.append(("keep", dict(arguments)))
        return ToolOutcome(content="kept")

    async def _send(self, arguments: Mapping[str, JsonValue], place: ToolPlace) -> ToolOutcome:
        self.calls.append(("send", dict(arguments)))
        with self.file.open("a") as file:
            file.write(f"{arguments['text']}\n")
        return ToolOutcome(content="sent")

    async def _wait(self, arguments: Mapping[str, JsonValue], place: ToolPlace) -> ToolOutcome:
        self.calls.append(("wait", dict(arguments)))
        self.entered.set()
        await self.held.wait()
        return ToolOutcome(content="waited")

    async def _peek(self, arguments: Mapping[str, JsonValue], place: ToolPlace) -> ToolOutcome:
        self.entered.set()
        await self.held.wait()
        return ToolOutcome(content="peeked")


def _tool(
    name: str,
    effect: Effect,
    *,
    reading: bool = False,
    dangerous: bool = False,
    quick: bool = False,
) -> Tool:
    return Tool(
        name=name,
        description=f"{name}s a text",
        parameters=_TEXT,
        effect=effect,
        category=ToolCategory.FILES,
        is_reading=reading,
        is_dangerous=dangerous,
        is_quick=quick,
        timeout_seconds=20,
    )

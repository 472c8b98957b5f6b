"""The tools there are: each a description for the model and the function that runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from schema.domain.tools import Tool, ToolOutcome, ToolPlace

Run = Callable[[Mapping[str, JsonValue], ToolPlace], Awaitable[ToolOutcome]]
"""Takes arguments that fit the schema. What the model can act on is an outcome, errors too."""


@dataclass(frozen=True)
class BuiltTool:
    """A tool and what runs it."""

    tool: Tool
    run: Run


class ToolRegistry:
    """A `Toolbox`."""

    def __init__(self, tools: Iterable[BuiltTool]) -> None:
        self._tools = {built.tool.name: built for built in tools}

    def all(self) -> Sequence[Tool]:
        """Return every tool, in the order they were given."""
        return [built.tool for built in self._tools.values()]

    def get(self, name: str) -> Tool | None:
        """Return one by name."""
        built = self._tools.get(name)
        return None if built is None else built.tool

    async def run(
        self, tool: Tool, arguments: Mapping[str, JsonValue], place: ToolPlace
    ) -> ToolOutcome:
        """Run a call."""
        return await self._tools[tool.name].run(arguments, place)

"""Handing work in: a file of the workspace becomes a file that people can fetch."""

from __future__ import annotations

from pydantic import Field

from conclave.ports.files import OutputFiles
from conclave.tools.builtin.definition import Answer, Arguments, define
from conclave.tools.builtin.places import Places, relative
from conclave.tools.toolbox import BuiltTool
from schema.domain.tools import Effect, ToolCategory, ToolPlace

_SECONDS = 300


class PublishFile(Arguments):
    """Of `publish_file`."""

    path: str = Field(
        description="The file to hand in, relative to the workspace.",
        min_length=1,
        max_length=4096,
        examples=["notes.txt"],
    )
    filename: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="What people are to see it as; else its own name.",
    )
    description: str | None = Field(
        default=None, max_length=2000, description="What it is, in a sentence."
    )


class OutputTools:
    """`publish_file`."""

    def __init__(self, places: Places, outputs: OutputFiles) -> None:
        self._places = places
        self._outputs = outputs

    def tools(self) -> list[BuiltTool]:
        """Return it."""
        return [
            define(
                "publish_file",
                "Hand in a file of the workspace: people can fetch it from then on, and a task "
                "lists it as its output. A later change of the file is handed in by another call.",
                self.publish,
                PublishFile,
                effect=Effect.IDEMPOTENT,
                category=ToolCategory.FILES,
                timeout_seconds=_SECONDS,
            )
        ]

    async def publish(self, asked: PublishFile, place: ToolPlace) -> Answer:
        """Store it."""
        workspace = await self._places.at(place)
        path = (await workspace.files.stat(relative(asked.path))).path
        stored = await self._outputs.publish(
            place,
            path,
            workspace.files.pieces(path),
            filename=asked.filename,
            description=asked.description,
        )
        size = f"{stored.size_bytes} bytes"
        return f"Handed {path} in as file {stored.id}: {stored.filename} ({size})."

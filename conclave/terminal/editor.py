"""The person's own editor, for the arguments of a tool call."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import tempfile
from pathlib import Path

from pydantic import JsonValue

TOKEN_VARIABLE = "CONCLAVE_TOKEN"


def editor_command() -> list[str]:
    """Return the command of $VISUAL or $EDITOR, nothing where neither is set."""
    try:
        return shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "")
    except ValueError:
        return []


async def edit(command: list[str], arguments: dict[str, JsonValue]) -> str | None:
    """Let the person change arguments; None where the editor failed or nothing was changed.

    The text is ASCII: whatever cannot be seen stands there spelled out. The file is the person's
    alone, and the editor does not get our token.
    """
    before = json.dumps(arguments, indent=2) + "\n"
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    with tempfile.TemporaryDirectory(prefix="conclave-") as directory:
        path = Path(directory) / "arguments.json"
        path.touch(mode=0o600)
        path.write_text(before, encoding="utf-8")
        try:
            process = await asyncio.create_subprocess_exec(*command, str(path), env=environment)
        except OSError:
            return None
        if await process.wait() != 0:
            return None
        after = await asyncio.to_thread(path.read_text, encoding="utf-8", errors="replace")
    return None if after == before else after

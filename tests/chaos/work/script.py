"""What the model of a work run does: each task carries its script in its instructions.

`python -m tests.chaos.work.script` is the model server that follows them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
from pathlib import Path
from typing import Literal

from schema.domain.base import Shape
from tests.fakes.model_server import Behaviour, Failure, Json, ModelServer, Received, Reply

FLAKY_MODEL = "gpt-4.1-mini"
"""The model of the agent whose provider fails: what is learned of it holds for no other agent."""
LINES = "lines.txt"
"""Where calls of the tool append, in the workspace of their task."""
_SCRIPT = re.compile(r"SCRIPT (\{.*?\})")
_ANOTHER = "This is another attempt at the task."


class Script(Shape):
    """How the model behaves for one task."""

    rounds: int = 0
    """Replies that ask for calls of the tool before the last one, which is words."""
    calls: int = 1
    """In each of these replies."""
    failing: int = 0
    """Attempts for which the provider cannot answer."""
    is_refused: bool = False
    """The provider refuses the task whenever it is asked."""
    ends: Literal["completed", "failed"] = "completed"
    """By itself, once and for all unless somebody retries it."""

    @property
    def instructions(self) -> str:
        """Return what a task's instructions say of it."""
        return f"SCRIPT {self.model_dump_json()}"


def script_in(text: str) -> Script:
    """Return the script that a text carries; without one the model just talks."""
    found = _SCRIPT.search(text)
    return Script() if found is None else Script.model_validate_json(found[1])


def line_of(text: str) -> str:
    """Return the command that appends a line; it takes a moment before and after."""
    return f"sleep 0.2; echo {text} >> {LINES}; sleep 0.2"


def follow(received: Received, delay: float) -> Behaviour:
    """Do what the script says. Every line is its request's own: one that is made again asks for
    other lines, so that a line that is there twice was sent twice."""
    messages: list[Json] = received.body["messages"]
    said = "\n".join(_text(message) for message in messages if message["role"] != "assistant")
    script = script_in(said)
    if script.is_refused:
        return Failure(400, "this task is refused")
    if 1 + said.count(_ANOTHER) <= script.failing:
        # One that opens no circuit: the other tasks are not to wait for this one's provider.
        return Failure(429, "too many requests", delay=delay / 4)
    rounds = sum(bool(message.get("tool_calls")) for message in messages)
    if rounds >= script.rounds or not received.body.get("tools"):
        return Reply(text=f"All is done. #{received.n}", delay=delay)
    calls: list[tuple[str, Json | str]] = [
        ("bash", {"command": line_of(f"{received.n}-{number}")}) for number in range(script.calls)
    ]
    return Reply(text=f"I send. #{received.n}", tool_calls=calls, delay=delay)


def _text(message: Json) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content)
    return str(content or "")


async def _serve(delay: float, log: Path) -> None:
    server = ModelServer(responder=lambda received: follow(received, delay), log=log, keep=False)
    async with server:
        print(server.base_url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--log", type=Path, required=True)
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(given.delay, given.log))

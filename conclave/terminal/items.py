"""What a conversation in a terminal comes to: things to show, and things to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import JsonValue

from conclave.terminal.wire import ToolCall

INTERRUPTED = 130
"""The exit status after Ctrl-C."""


@dataclass(frozen=True)
class Spoken:
    """A piece of what the agent says, as it came."""

    text: str


@dataclass(frozen=True)
class StepEnded:
    """What was spoken is whole: what follows begins a line of its own."""


@dataclass(frozen=True)
class Note:
    """Something worth knowing, in our own words or the server's."""

    text: str


@dataclass(frozen=True)
class Problem:
    """Something went wrong."""

    text: str


@dataclass(frozen=True)
class Asked:
    """A call that needs a verdict; `whole`: do not cut its arguments."""

    call: ToolCall
    number: int
    whole: bool = False


@dataclass(frozen=True)
class Started:
    """A call runs; its arguments where the server tells them: nobody may have been asked."""

    name: str
    arguments: dict[str, JsonValue] | None = None


@dataclass(frozen=True)
class Answered:
    """What a call answered."""

    name: str
    content: str
    is_error: bool


@dataclass(frozen=True)
class Ended:
    """A turn is over."""

    stop_reason: str
    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float


@dataclass(frozen=True)
class Said:
    """A message of before, of a chat that is gone on with."""

    role: str
    text: str


Shown = Spoken | StepEnded | Note | Problem | Asked | Started | Answered | Ended | Said


@dataclass(frozen=True)
class Send:
    """A message to the server."""

    message: dict[str, JsonValue]


@dataclass(frozen=True)
class Command:
    """A slash command that needs the server."""

    name: str
    argument: str


@dataclass(frozen=True)
class Edit:
    """The arguments of a call are to be changed by the person."""

    call: ToolCall


@dataclass(frozen=True)
class ReadBack:
    """The transcript is needed: pieces of text were missed."""


@dataclass(frozen=True)
class Leave:
    """The end of the conversation in this terminal."""

    status: int


Action = Shown | Send | Command | Edit | ReadBack | Leave


class Awaited(StrEnum):
    """What the next line will be taken for; the value is the question."""

    MESSAGE = "> "
    QUEUED = ""
    """A message too: it waits until the running turn is over."""
    VERDICT = "allow? y/n/a/e/v, Y/N for all: "
    REASON = "why not (may be empty): "
    ARGUMENTS = "arguments as JSON, then an empty line: "

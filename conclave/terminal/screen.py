"""What a person sees. Everything shown comes from others and is cleaned here, on its way out."""

from __future__ import annotations

import sys

from pydantic import JsonValue
from rich.console import Console

from conclave.terminal.cleaning import clean, one_line, revealed, shown_as_json
from conclave.terminal.items import (
    Answered,
    Asked,
    Ended,
    Note,
    Problem,
    Said,
    Shown,
    Spoken,
    Started,
    StepEnded,
)

_ARGUMENT_LINES = 12
_ARGUMENT_CHARACTERS = 1500
_STARTED_CHARACTERS = 200
_RESULT_LINES = 6
_RESULT_CHARACTERS = 600
_HISTORY_CHARACTERS = 2000
_ENDS = {
    "max_tokens": "the answer was cut at the most tokens it may have",
    "tool_denied": "stopped: its tools were denied",
    "cancelled": "cancelled",
    "budget_exceeded": "stopped: the budget is spent",
    "error": "stopped by an error",
}


class Screen:
    """Prints items. Where `notes` is another console, only what is spoken goes to `spoken`."""

    def __init__(self, spoken: Console, notes: Console | None = None) -> None:
        self._spoken = spoken
        self._notes = notes or spoken
        self._is_mid_line = False
        """Whether the cursor stands behind something."""
        self._is_speaking = False
        """Whether what was spoken has not ended its line."""
        self._asked = ""
        """The question that stands on the line, not answered yet."""

    def show(self, item: Shown) -> None:
        """Print one item."""
        match item:
            case Spoken(text):
                self._speak(clean(text))
            case StepEnded():
                self._end_speech()
            case Note(text):
                self._line(clean(text), "dim")
            case Problem(text):
                self._line(clean(text), "red")
            case Asked():
                self._ask(item)
            case Started(name, arguments):
                told = one_line(shown_as_json(arguments), _STARTED_CHARACTERS) if arguments else ""
                self._line(f"· {one_line(name, 60)} runs {told}".rstrip(), "dim")
            case Answered(name, content, is_error):
                cut = cut_text(clean(content).strip(), _RESULT_LINES, _RESULT_CHARACTERS)
                verb = "failed" if is_error else "answered"
                style = "red" if is_error else "dim"
                self._line(f"· {one_line(name, 60)} {verb}: {cut or 'nothing'}", style)
            case Ended():
                self._line(_ending(item), "dim")
            case Said(role, text):
                said = cut_text(clean(text).strip(), 40, _HISTORY_CHARACTERS)
                self._line(
                    f"> {said}" if role == "user" else said, "bold" if role == "user" else ""
                )

    def ask(self, question: str) -> None:
        """Put a question before the next line, unless it stands there."""
        if question and question != self._asked:
            self._break()
            self._print(self._notes, question, "bold cyan", end="")
            self._is_mid_line = True
        self._asked = question

    def note_entered(self) -> None:
        """Take note that the person ended the line."""
        self._is_mid_line = False
        self._asked = ""

    def finish(self) -> None:
        """Leave the cursor at the beginning of a line."""
        self._end_speech()
        self._break()

    def _speak(self, text: str) -> None:
        if self._asked:
            self._break()
        if not text:
            return
        self._spoken.file.write(text)  # as it is: it may be piped into a file
        self._spoken.file.flush()
        self._is_mid_line = self._is_speaking = not text.endswith("\n")

    def _end_speech(self) -> None:
        """End the line of what was spoken, also where a note came between on a screen."""
        if self._is_speaking and (self._is_mid_line or self._notes is not self._spoken):
            self._speak("\n")
        self._is_speaking = False

    def _ask(self, asked: Asked) -> None:
        call = asked.call
        self._line(f"[{asked.number}] {revealed(call.name)[:200]}", "bold yellow")
        text = arguments_text(call.arguments)
        if not asked.whole:
            text = cut_text(text, _ARGUMENT_LINES, _ARGUMENT_CHARACTERS, hint="; v shows all")
        if text:
            self._line(text, "yellow")

    def _line(self, text: str, style: str) -> None:
        self._break()
        self._print(self._notes, text, style, end="\n")

    def _break(self) -> None:
        if self._is_mid_line:  # never into what is spoken where that goes elsewhere
            self._print(self._notes, "", "", end="\n")
        self._is_mid_line = False
        self._asked = ""

    @staticmethod
    def _print(console: Console, text: str, style: str, *, end: str) -> None:
        console.print(
            text, style=style or None, end=end, markup=False, highlight=False, emoji=False,
            soft_wrap=True,
        )  # fmt: skip
        console.file.flush()


def arguments_text(arguments: dict[str, JsonValue]) -> str:
    """Return arguments one below the other; long text as its lines, all else as JSON."""
    parts: list[str] = []
    for name, value in arguments.items():
        shown_name = revealed(name).replace("\n", "\\n")
        if isinstance(value, str) and "\n" in value:
            lines = revealed(value).split("\n")
            parts.append("\n".join([f"  {shown_name}:", *(f"  | {line}" for line in lines)]))
        else:
            parts.append(f"  {shown_name}: {shown_as_json(value).replace(chr(10), chr(10) + '  ')}")
    return "\n".join(parts)


def cut_text(text: str, lines: int, characters: int, hint: str = "") -> str:
    """Return the beginning of a text, with a note of how much is not shown."""
    kept = "\n".join(text.split("\n")[:lines])[:characters]
    left = len(text) - len(kept)
    return text if left <= 0 else f"{kept}\n  … {left:,} more characters{hint}"


def _ending(ended: Ended) -> str:
    parts = [one_line(_ENDS.get(ended.stop_reason, ended.stop_reason), 100)]
    if ended.stop_reason == "end_turn":
        parts = []
    if ended.model:
        parts.append(one_line(ended.model, 100))
    parts.append(f"{ended.input_tokens:,} tokens in, {ended.output_tokens:,} out")
    if ended.cost_usd:
        parts.append(f"${ended.cost_usd:.4f}")
    return f"— {' · '.join(parts)}"


def terminal_screen(*, spoken_apart: bool = False) -> Screen:
    """Return the screen of this process; `spoken_apart`: all but the answer on standard error."""
    spoken = Console(file=sys.stdout)
    return Screen(spoken, Console(file=sys.stderr) if spoken_apart else None)

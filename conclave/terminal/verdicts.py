"""Tool calls that wait for a verdict, and the questions a person is asked about them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue, TypeAdapter, ValidationError

from conclave.terminal.cleaning import one_line
from conclave.terminal.items import Action, Asked, Awaited, Edit, Note, Problem, Send
from conclave.terminal.wire import ToolCall

VERDICT_KEYS = "y: yes, n: no, a: always in this chat, e: edit, v: show it whole, Y or N: all"
_OBJECT = TypeAdapter(dict[str, JsonValue])


def read_object(text: str) -> dict[str, JsonValue] | None:
    """Return a JSON object, None where the text is none."""
    try:
        return _OBJECT.validate_json(text)
    except ValidationError:
        return None


class Verdicts:
    """The calls of one chat, in the order they were asked for.

    `unattended` ("allow" or "deny") answers each at once.
    """

    def __init__(self, unattended: str | None) -> None:
        self._unattended = unattended
        self._pending: dict[str, ToolCall] = {}
        self._decided: dict[str, tuple[ToolCall, JsonValue]] = {}
        """What was said to calls that nothing was heard of since: said again if it got lost."""
        self._numbers: dict[str, int] = {}
        self._awaited = Awaited.VERDICT
        self._denies_all = False
        self._lines: list[str] = []

    @property
    def awaited(self) -> Awaited | None:
        """What is asked just now, None where nothing waits."""
        return self._awaited if self._pending else None

    @property
    def prompt(self) -> str:
        """The question."""
        if self._lines:
            return "... "
        if self._awaited is not Awaited.VERDICT:
            return self._awaited.value
        call = self._current()
        return f"[{self._numbers[call.id]}] {one_line(call.name, 60)}: {Awaited.VERDICT.value}"

    def on_request(self, calls: Sequence[ToolCall]) -> list[Action]:
        """Take in calls that wait."""
        fresh = [call for call in calls if not self._knows(call.id)]
        if self._unattended is not None:
            return self._answer(fresh, self._unattended) if fresh else []
        for call in fresh:
            self._pending[call.id] = call
            self._numbers[call.id] = len(self._numbers) + 1
        return [Asked(call, self._numbers[call.id]) for call in fresh]

    def on_ready(self, calls: Sequence[ToolCall]) -> list[Action]:
        """Take in all calls that wait after a connection was made."""
        ids = {call.id for call in calls}
        self._decided = {key: said for key, said in self._decided.items() if key in ids}
        actions: list[Action] = []
        if self._decided:
            actions.append(_approval({key: said for key, (_, said) in self._decided.items()}))
        gone = [key for key in self._pending if key not in ids]
        return [*actions, *self.on_settled(gone), *self.on_request(calls)]

    def on_settled(self, call_ids: Sequence[str]) -> list[Action]:
        """Forget calls that wait no more: they were decided, here or elsewhere."""
        actions: list[Action] = []
        for call_id in call_ids:
            self._decided.pop(call_id, None)
            if call_id not in self._pending:
                continue
            is_asked = self._current().id == call_id
            del self._pending[call_id]
            if is_asked and self._awaited is not Awaited.VERDICT:
                self._ask_next()
                actions.append(Note("It was decided elsewhere meanwhile."))
        return actions

    def on_taken(self, call_id: str) -> None:
        """Do not say it again: it counts, though others have to agree before it is decided."""
        self._decided.pop(call_id, None)

    def on_refused(self, call_id: str) -> None:
        """Ask again: the server did not take what was said to this call."""
        call, _ = self._decided.pop(call_id, (None, None))
        if call is not None:
            self._pending[call_id] = call

    def clear(self) -> None:
        """Forget all: the turn is over."""
        self._pending.clear()
        self._decided.clear()
        self._numbers.clear()
        self._ask_next()

    def on_line(self, line: str) -> list[Action]:
        """Take in the answer to what is asked."""
        match self._awaited:
            case Awaited.REASON:
                return self._deny(line.strip())
            case Awaited.ARGUMENTS:
                return self._on_argument_line(line)
            case _:
                return self._on_key(line.strip())

    def on_edited(self, call_id: str, text: str | None) -> list[Action]:
        """Run the call with other arguments; with None, or what is no object, ask again."""
        self._ask_next()
        call = self._pending.get(call_id)
        if call is None:
            return [Note("It was decided elsewhere meanwhile.")]
        if text is None:
            return [Note("Nothing was changed, so nothing is decided.")]
        arguments = read_object(text)
        if arguments is None:
            return [Problem("That is not a JSON object; nothing is decided.")]
        return self._answer([call], {"verdict": "edit", "arguments": arguments})

    def read_arguments(self) -> list[Action]:
        """Take the next lines as the arguments of the call that is asked about."""
        self._awaited = Awaited.ARGUMENTS
        return []

    def _on_key(self, key: str) -> list[Action]:
        call = self._current()
        match key:
            case "y":
                return self._answer([call], "allow")
            case "a":
                return self._answer([call], "allow_always")
            case "Y":
                return self._answer(list(self._pending.values()), "allow")
            case "n" | "N":
                self._awaited, self._denies_all = Awaited.REASON, key == "N"
                return []
            case "e":
                return [Edit(call)]
            case "v":
                return [Asked(call, self._numbers[call.id], whole=True)]
            case _:
                return [Note(VERDICT_KEYS)]

    def _deny(self, reason: str) -> list[Action]:
        calls = list(self._pending.values()) if self._denies_all else [self._current()]
        verdict: JsonValue = {"verdict": "deny", "reason": reason} if reason else "deny"
        return self._answer(calls, verdict)

    def _on_argument_line(self, line: str) -> list[Action]:
        if line.strip():
            self._lines.append(line)
            return []
        text = "\n".join(self._lines)
        return self.on_edited(self._current().id, text if text.strip() else None)

    def _answer(self, calls: Sequence[ToolCall], verdict: JsonValue) -> list[Action]:
        for call in calls:
            self._decided[call.id] = (call, verdict)
            self._pending.pop(call.id, None)
        self._ask_next()
        return [_approval({call.id: verdict for call in calls})]

    def _ask_next(self) -> None:
        self._awaited, self._denies_all, self._lines = Awaited.VERDICT, False, []
        if not self._pending and not self._decided:
            self._numbers.clear()

    def _current(self) -> ToolCall:
        return next(iter(self._pending.values()))

    def _knows(self, call_id: str) -> bool:
        return call_id in self._pending or call_id in self._decided


def _approval(verdicts: dict[str, JsonValue]) -> Send:
    return Send({"type": "tool_approval", "verdicts": dict(verdicts)})

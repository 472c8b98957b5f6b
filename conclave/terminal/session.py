"""One conversation in a terminal: frames and lines go in, what to show and do comes out.

No input or output of its own. The turn is the server's: whatever is forgotten here is learned
again from `session.ready` and the frames after it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

from pydantic import JsonValue

from conclave.terminal.items import (
    INTERRUPTED,
    Action,
    Answered,
    Awaited,
    Command,
    Ended,
    Leave,
    Note,
    Problem,
    ReadBack,
    Said,
    Send,
    Spoken,
    Started,
    StepEnded,
)
from conclave.terminal.reply import ReplyText
from conclave.terminal.verdicts import Verdicts
from conclave.terminal.wire import Frame, Turn

HELP = """\
/profile [NAME]      show or change this chat's model profile; /profiles lists them
/permissions [MODE]  show or change the mode of all chats: interactive, autonomous, readonly
/context, /compact   how full the model's window is; let the model summarise what is old
/cancel, /panic      stop the running turn; stop it and drop everything queued
/chats, /resume ID   list chats; go on with one
/new                 begin another chat
/quit                leave (Ctrl-D too); a running turn goes on without you
A line that ends with \\ goes on in the next one. Ctrl-C cancels the turn, twice it leaves."""
_REMOTE = frozenset(
    "profile profiles permissions context compact resume chats new".split()  # noqa: SIM905
)
"""What a shell says of a program that Ctrl-C ended."""
_GOOD_ENDS = frozenset({"end_turn", "max_tokens"})


class Session:
    """The state of one chat as this terminal sees it.

    `unattended` answers every tool request with it ("allow" or "deny"): nobody is asked then.
    `once` leaves when the first message is answered.
    """

    def __init__(
        self, *, stream: bool = True, unattended: str | None = None, once: bool = False
    ) -> None:
        self._stream = stream
        self._once = once
        self._reply = ReplyText()
        self._verdicts = Verdicts(unattended)
        self._unanswered: dict[str, str] = {}
        """Messages whose turn is not over, by their ids; a server that knows an id ignores it."""
        self._held: list[str] = []
        """What waits for a turn that ran before, where only one is to be answered."""
        self._answering = ""
        """The id of our message whose turn runs, as far as the server says whose it is."""
        self._names_messages = False
        """Whether the server says whose turn runs; else turns answer messages in order."""
        self._is_running = False
        self._is_ready = self._was_ready = False
        self._has_failed = False
        self._interrupts = 0
        self._is_cancelling = False
        self._unfinished_line = ""
        self._by_type: dict[str, Callable[[Frame], list[Action]]] = {
            "session.ready": self._on_ready,
            "agent.text_delta": self._on_delta,
            "agent.text": self._on_text,
            "agent.message": self._on_message_end,
            "agent.turn_started": self._on_turn_started,
            "user.message": self._on_user_message,
            "session.cancelled": self._on_cancelled,
            "agent.tool_decided": self._on_tool_decided,
            "agent.tool_voted": self._on_tool_voted,
            "agent.tool_request": self._on_tool_request,
            "agent.tool_started": self._on_tool_started,
            "agent.tool_result": self._on_tool_result,
            "agent.tool_denied": self._on_tool_denied,
            "agent.turn_complete": self._on_turn_complete,
            "agent.error": self._on_error,
            "agent.compaction_started": self._on_compaction_started,
            "agent.context_compacted": self._on_compacted,
        }

    @property
    def is_running(self) -> bool:
        """Whether a turn runs, or one of our messages waits for its turn."""
        return self._is_running or bool(self._unanswered)

    @property
    def prompt(self) -> str:
        """The question before the next line, empty while a turn runs."""
        if self._verdicts.awaited is not None:
            return self._verdicts.prompt
        return "... " if self._unfinished_line else self.awaited.value

    @property
    def awaited(self) -> Awaited:
        """What the next line is taken for."""
        asked = self._verdicts.awaited
        if asked is not None:
            return asked
        return Awaited.QUEUED if self.is_running else Awaited.MESSAGE

    def on_frame(self, frame: Frame) -> list[Action]:
        """Take in what the server says; types not known are for others."""
        handle = self._by_type.get(frame.type)
        return handle(frame) if handle is not None else []

    def on_lost(self, reason: str) -> list[Action]:
        """Note that the connection is gone."""
        if self.is_running:
            self._reply.miss()
        if not self._is_ready:
            return []
        self._is_ready = False
        return [Note(f"Connection lost ({reason}); trying again.")]

    def on_transcript(self, turns: Sequence[Turn]) -> list[Action]:
        """Show what was missed, after `ReadBack`."""
        texts = self._reply.read_back(
            turns, requests=len(self._unanswered) + 1, is_idle=not self.is_running
        )
        return [*([Spoken("\n".join(texts))] if texts else []), StepEnded()]

    def note_history(self, turns: Sequence[Turn]) -> None:
        """Take what is shown of before as shown."""
        self._reply.remember(turns)

    def on_entry(self, entry: str) -> list[Action]:
        """Take in what was typed; lines that came at once are one message."""
        self._interrupts = 0
        actions: list[Action] = []
        lines = entry.split("\n")
        while lines:
            if self._verdicts.awaited is not None or lines[0].startswith("/"):
                actions += self._on_line(lines.pop(0))
            else:
                actions += self._on_message("\n".join(lines))
                break
        return actions

    def say(self, content: str) -> list[Action]:
        """Send a message; where only one is to be answered, not before its turn can begin."""
        if self._once and (not self._is_ready or self._is_running):
            self._held.append(content)
            return []
        message_id = str(uuid.uuid4())
        self._unanswered[message_id] = content
        return [self._message(message_id, content)]

    def on_interrupt(self) -> list[Action]:
        """Cancel what runs; leave when pressed again."""
        self._interrupts += 1
        if self._once and (self._interrupts > 1 or not self._unanswered):
            return [Leave(INTERRUPTED)]
        if self._interrupts > 1:
            return self._leave()
        if self.is_running:
            return self._cancel()
        return [Note("Ctrl-C again leaves.")]

    def on_end_of_input(self) -> list[Action]:
        """Leave; the turn does not need us."""
        return self._leave()

    def on_edited(self, call_id: str, text: str | None) -> list[Action]:
        """Take in the arguments as the person left them; None is no change."""
        return self._verdicts.on_edited(call_id, text)

    def read_arguments(self) -> list[Action]:
        """Ask for the arguments line by line, where there is no editor."""
        return self._verdicts.read_arguments()

    # Lines

    def _on_line(self, line: str) -> list[Action]:
        if line.startswith("/"):
            name, _, argument = line[1:].partition(" ")
            return self._on_command(name.strip(), argument.strip())
        return self._verdicts.on_line(line)

    def _on_message(self, text: str) -> list[Action]:
        if text.endswith("\\"):
            self._unfinished_line += text[:-1] + "\n"
            return []
        content, self._unfinished_line = self._unfinished_line + text, ""
        return self.say(content) if content.strip() else []

    def _on_command(self, name: str, argument: str) -> list[Action]:
        match name:
            case "help":
                return [Note(HELP)]
            case "quit" | "exit":
                return self._leave()
            case "cancel":
                return self._cancel() if self.is_running else [Note("Nothing runs.")]
            case "panic":
                self._unanswered.clear()
                self._held.clear()
                return [Send({"type": "panic"}), Note("Stopping, and dropping what is queued.")]
            case _ if name in _REMOTE:
                return [Command(name, argument)]
            case _:
                return [Problem(f"There is no /{name}. /help shows what there is.")]

    def _cancel(self) -> list[Action]:
        self._is_cancelling = True
        return [Send({"type": "cancel"}), Note("Cancelling the turn; Ctrl-C again leaves.")]

    def _leave(self) -> list[Action]:
        notes: list[Action] = []
        if self.is_running:
            notes = [Note("The turn goes on without you.")]
        return [*notes, Leave(1 if self._once else 0)]

    def _message(self, message_id: str, content: str) -> Send:
        return Send(
            {
                "type": "user_message",
                "content": content,
                "stream": self._stream,
                "id": message_id,
            }
        )

    # Frames

    def _on_ready(self, frame: Frame) -> list[Action]:
        """Learn how things stand, and say again what may not have arrived."""
        is_first, self._was_ready = not self._was_ready, True
        self._is_ready = True
        self._is_running = frame.text("state") != "idle"
        actions: list[Action] = [] if is_first else [Note("Connected again.")]
        if is_first and self._is_running:
            self._reply.miss()
            actions.append(Note("A turn runs; what it has said shows when it is complete."))
        actions += self._verdicts.on_ready(frame.calls("pending_tool_calls"))
        if self._is_cancelling and self._is_running:
            actions.append(Send({"type": "cancel"}))
        actions += [self._message(key, content) for key, content in self._unanswered.items()]
        return [*actions, *self._say_held()]

    def _on_delta(self, frame: Frame) -> list[Action]:
        self._is_running = True
        shown = self._reply.hear(frame.text("text"))
        return [Spoken(shown)] if shown else []

    def _on_text(self, frame: Frame) -> list[Action]:
        shown = self._reply.complete(frame.text("text"))
        return [Spoken(shown), StepEnded()] if shown else []

    def _on_message_end(self, frame: Frame) -> list[Action]:
        shown, needs_transcript = self._reply.end_message(int(frame.number("length")))
        if needs_transcript:
            return [ReadBack()]
        return [*([Spoken(shown)] if shown else []), StepEnded()]

    def _on_turn_started(self, _: Frame) -> list[Action]:
        self._is_running = True
        return [Note("The model is asked again.")] if self._reply.restart() else []

    def _on_user_message(self, frame: Frame) -> list[Action]:
        """Learn whose turn runs; what others say in this chat is shown."""
        self._names_messages = self._is_running = True
        content = frame.text("content")
        ours = [key for key, said in self._unanswered.items() if said.strip() == content.strip()]
        self._answering = ours[0] if ours else ""
        return [] if ours else [Said("user", content)]

    def _on_cancelled(self, frame: Frame) -> list[Action]:
        if frame.data.get("cancelled") is not False:
            return []
        self._is_running = self._is_cancelling = False
        self._unanswered.clear()
        return [Note("Nothing ran.")]

    def _on_tool_decided(self, frame: Frame) -> list[Action]:
        return self._verdicts.on_settled([frame.text("tool_use_id")])

    def _on_tool_voted(self, frame: Frame) -> list[Action]:
        count, required = frame.data.get("approvals_count"), frame.data.get("required_approvals")
        self._verdicts.on_taken(frame.text("tool_use_id"))
        return [Note(f"{count} of {required} said yes; the call waits for more.")]

    def _on_tool_request(self, frame: Frame) -> list[Action]:
        self._is_running = True
        return [*self._end_step(), *self._verdicts.on_request(frame.calls())]

    def _on_tool_started(self, frame: Frame) -> list[Action]:
        self._is_running = True
        told = frame.data.get("arguments")
        started = Started(frame.text("tool_name"), told if isinstance(told, dict) else None)
        actions = [*self._end_step(), started]
        return [*actions, *self._verdicts.on_settled([frame.text("tool_use_id")])]

    def _on_tool_result(self, frame: Frame) -> list[Action]:
        is_error = frame.data.get("is_error") is True
        result = Answered(frame.text("tool_name"), frame.text("content"), is_error)
        settled = self._verdicts.on_settled([frame.text("tool_use_id")])
        return [*self._end_step(), result, *settled]

    def _on_tool_denied(self, frame: Frame) -> list[Action]:
        calls = frame.calls()
        reason = frame.text("reason")
        names = ", ".join(call.name for call in calls) or "tools"
        actions = [*self._end_step(), Note(f"Denied: {names}{f' ({reason})' if reason else ''}")]
        return [*actions, *self._verdicts.on_settled([call.id for call in calls])]

    def _on_turn_complete(self, frame: Frame) -> list[Action]:
        usage = Frame(type="usage", data=_object(frame.data.get("usage")))
        ended = Ended(
            stop_reason=frame.text("stop_reason"),
            model=frame.text("model"),
            input_tokens=int(usage.number("input_tokens")),
            output_tokens=int(usage.number("output_tokens")),
            cost_usd=usage.number("cost_usd"),
        )
        actions = [*self._end_step(ends_turn=True), ended]
        was_cancelled = self._is_cancelling
        self._verdicts.clear()
        self._is_running = self._is_cancelling = False
        self._interrupts = 0
        was_ours = self._forget_answered()
        self._has_failed = self._has_failed or ended.stop_reason not in _GOOD_ENDS
        if self._once and was_ours:
            return [*actions, Leave(INTERRUPTED if was_cancelled else int(self._has_failed))]
        return [*actions, *self._say_held()]

    def _on_error(self, frame: Frame) -> list[Action]:
        self._has_failed = True
        problem = Problem(frame.text("message") or "The server met an error.")
        if frame.text("code") in {"", "turn_failed"}:
            return [*self._end_step(), problem]  # the end of the turn follows
        if self._once:
            return [problem, Leave(1)]  # what was said is not taken: no answer will come of it
        call_id = frame.text("tool_use_id")
        if frame.text("code") == "already_voted":
            self._verdicts.on_taken(call_id)
        elif call_id and frame.text("code") != "not_found":
            self._verdicts.on_refused(call_id)
        elif not call_id:
            self._forget_refused()
        return [problem]

    def _on_compaction_started(self, frame: Frame) -> list[Action]:
        used, window = int(frame.number("tokens_before")), int(frame.number("context_window"))
        return [Note(f"Summarising what is old: {used:,} of {window:,} tokens are used.")]

    def _on_compacted(self, frame: Frame) -> list[Action]:
        before, after = int(frame.number("tokens_before")), int(frame.number("tokens_after"))
        removed = int(frame.number("turns_removed"))
        return [Note(f"Summarised {removed} turns: {before:,} tokens became {after:,}.")]

    def _forget_answered(self) -> bool:
        """Drop the message whose turn is over; whether it was one of ours."""
        key = self._answering
        if not self._names_messages:
            key = next(iter(self._unanswered), "")
        self._answering = ""
        return self._unanswered.pop(key, None) is not None

    def _forget_refused(self) -> None:
        """Drop the latest message: it may be what was not taken, and is not said again then."""
        latest = next(reversed(self._unanswered), self._answering)
        if latest != self._answering:
            del self._unanswered[latest]

    def _end_step(self, *, ends_turn: bool = False) -> list[Action]:
        return [ReadBack() if self._reply.end_step(ends_turn=ends_turn) else StepEnded()]

    def _say_held(self) -> list[Action]:
        if self._is_running or not self._held:
            return []
        held, self._held = self._held, []
        self._has_failed = False
        return [action for content in held for action in self.say(content)]


def _object(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}

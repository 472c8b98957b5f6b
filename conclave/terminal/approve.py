"""`conclave approve`: what waits for a yes anywhere in the product, and deciding it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import JsonValue

from conclave.errors import ConclaveError, Invalid
from conclave.terminal.cleaning import one_line, revealed, shown_as_json
from conclave.terminal.client import Client
from conclave.terminal.editor import edit, editor_command
from conclave.terminal.errors import ServerRefused
from conclave.terminal.items import INTERRUPTED, Note, Problem
from conclave.terminal.keyboard import EndOfInput, Entry, Keyboard
from conclave.terminal.screen import Screen, arguments_text, cut_text, terminal_screen
from conclave.terminal.server import Server
from conclave.terminal.verdicts import read_object
from conclave.terminal.wire import Waiting

_LOOK_EVERY_SECONDS = 2.0
_LONGEST_WAIT_SECONDS = 30.0
"""Between looks at a server that does not answer."""
_QUESTION = "approve? y/n/e/v, s: skip, q: leave: "
_KEYS = "y: yes, n: no, e: edit the arguments, v: show it whole, s: skip, q: leave"
_DETAIL_LINES = 12
_DETAIL_CHARACTERS = 1500


@dataclass(frozen=True)
class ApproveOptions:
    """What the caller of `conclave approve` asked for. `verdict` None: ask the person."""

    approval_id: int | None = None
    verdict: bool | None = None
    reason: str | None = None
    note: str | None = None
    every: bool = False
    watch: bool = False

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        if self.every and (self.verdict is None or self.approval_id is not None):
            raise Invalid("--all", "--all goes with --yes or --no, and without an ID")
        if self.verdict is not None and self.approval_id is None and not self.every:
            raise Invalid("--yes", "--yes and --no need an ID, or --all")
        if self.watch and (self.verdict is not None or self.approval_id is not None):
            raise Invalid(
                "--watch", "--watch asks about each: it goes without an ID, --yes and --no"
            )
        if self.reason is not None and self.verdict is not False:
            raise Invalid("--reason", "--reason goes with --no")
        if self.note is not None and self.verdict is not True:
            raise Invalid("--note", "--note goes with --yes")


class _Left(Exception):
    """The person does not go on."""


async def approve(server: Server, options: ApproveOptions) -> int:
    """List and decide; return the exit status: 1 where something could not be decided.

    Raises what asking for the list raises.
    """
    async with Client(server) as client:
        desk = ApprovalDesk(client, options, terminal_screen(), asks=sys.stdin.isatty())
        return await desk.run()


class ApprovalDesk:
    """Shows what waits and takes decisions. `asks`: there is a person to answer."""

    def __init__(
        self, client: Client, options: ApproveOptions, screen: Screen, *, asks: bool
    ) -> None:
        self._client = client
        self._options = options
        self._screen = screen
        self._asks = asks
        self._typed: asyncio.Queue[Entry | EndOfInput] = asyncio.Queue()
        self._lines: list[str] = []
        self._keyboard = Keyboard(0, self._on_typed)
        self._has_failed = False
        self._is_editing = False
        self._task: asyncio.Task[object] | None = None

    async def run(self) -> int:
        """Do what was asked for; return the exit status.

        Ctrl-C is the loop's to handle: the handler that `asyncio.run` sets is not run by a loop
        that was about to sleep, before something else wakes it.
        """
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        loop.add_signal_handler(signal.SIGINT, self._on_interrupt)
        if self._asks and self._options.verdict is None:
            self._keyboard.start()
        try:
            await self._run()
        except _Left:
            pass
        except asyncio.CancelledError:
            return INTERRUPTED
        finally:
            self._keyboard.stop()
            loop.remove_signal_handler(signal.SIGINT)
            self._screen.finish()
        return int(self._has_failed)

    async def _run(self) -> None:
        options = self._options
        if options.approval_id is not None:
            approval = await self._client.approval(options.approval_id)
            if options.verdict is None:
                self._show(approval)
                await self._ask([approval])
            else:
                await self._decide(approval, options.verdict)
        elif options.watch:
            await self._watch()
        else:
            waiting = await self._client.waiting()
            self._list(waiting)
            if options.verdict is None:
                await self._ask(waiting)
                return
            for approval in waiting:
                await self._decide(approval, options.verdict)

    async def _watch(self) -> None:
        """Keep looking; ask about each once. A server that is gone is waited for."""
        self._screen.show(Note("Watching; Ctrl-C leaves."))
        seen: set[int] = set()
        wait = _LOOK_EVERY_SECONDS
        while True:
            try:
                waiting = await self._client.waiting()
                wait = _LOOK_EVERY_SECONDS
            except ServerRefused as error:
                if error.answered < 500:
                    raise
                wait = self._note_silence(error, wait)
            except ConclaveError as error:
                wait = self._note_silence(error, wait)
            else:
                fresh = [approval for approval in waiting if approval.id not in seen]
                seen = {approval.id for approval in waiting}
                if fresh:
                    self._list(fresh)
                    await self._ask(fresh)
            await asyncio.sleep(wait)

    def _note_silence(self, error: ConclaveError, wait: float) -> float:
        if wait == _LOOK_EVERY_SECONDS:
            self._screen.show(Problem(f"{error.message}; trying again."))
        return min(wait * 2, _LONGEST_WAIT_SECONDS)

    async def _ask(self, waiting: Sequence[Waiting]) -> None:
        """Ask about one after the other."""
        if not self._asks:
            return
        for approval in waiting:
            if approval.status != "pending":
                self._screen.show(Note(_fate(approval)))
                continue
            if self._options.approval_id is None:
                self._show(approval)
            await self._ask_about(approval)

    async def _ask_about(self, approval: Waiting) -> None:
        self._forget_typed()
        while True:
            match (await self._line(_QUESTION)).strip():
                case "y":
                    return await self._send(approval, True, arguments=approval.edited)
                case "n":
                    reason = (await self._line("why not (may be empty): ")).strip()
                    return await self._send(approval, False, reason=reason or None)
                case "e":
                    arguments = await self._edited(approval)
                    if arguments is not None:
                        return await self._send(approval, True, arguments=arguments)
                case "v":
                    self._show(approval, whole=True)
                case "s":
                    return None
                case "q":
                    raise _Left
                case _:
                    self._screen.show(Note(_KEYS))

    async def _edited(self, approval: Waiting) -> dict[str, JsonValue] | None:
        if approval.arguments is None:
            self._screen.show(Note("It has no arguments to edit."))
            return None
        command = editor_command()
        if command:
            self._keyboard.stop()
            self._is_editing = True
            try:
                text = await edit(command, approval.arguments)
            finally:
                self._is_editing = False
                self._keyboard.start()
        else:
            text = await self._arguments_typed()
        if text is None or not text.strip():
            self._screen.show(Note("Nothing was changed, so nothing is decided."))
            return None
        arguments = read_object(text)
        if arguments is None:
            self._screen.show(Problem("That is not a JSON object; nothing is decided."))
        return arguments

    async def _arguments_typed(self) -> str:
        lines: list[str] = []
        question = "arguments as JSON, then an empty line: "
        while line := await self._line(question):
            lines.append(line)
            question = "... "
        return "\n".join(lines)

    async def _decide(self, approval: Waiting, verdict: bool) -> None:
        """Decide as the command line says."""
        await self._send(approval, verdict, reason=self._options.reason, note=self._options.note)

    async def _send(
        self,
        approval: Waiting,
        verdict: bool,
        *,
        reason: str | None = None,
        note: str | None = None,
        arguments: dict[str, JsonValue] | None = None,
    ) -> None:
        try:
            if verdict:
                decided = await self._client.approve(approval.id, note=note, arguments=arguments)
            else:
                decided = await self._client.reject(approval.id, reason=reason)
            self._screen.show(Note(_fate(decided)))
        except ServerRefused as error:
            self._has_failed = True
            if error.answered == 409:
                now = await self._client.approval(approval.id)
                if now.status != "pending":
                    self._screen.show(Problem(_fate(now)))
                    return
            self._screen.show(Problem(f"{approval.id}: {error.message}"))

    def _list(self, waiting: Sequence[Waiting]) -> None:
        if not waiting:
            self._screen.show(Note("Nothing waits."))
        for approval in waiting:
            self._screen.show(Note(_row(approval, datetime.now(UTC))))

    def _show(self, approval: Waiting, *, whole: bool = False) -> None:
        about = ", ".join(filter(None, (one_line(approval.risk_level, 20), approval.progress)))
        lines = [f"[{approval.id}] {revealed(approval.action)} ({about})"]
        if approval.description:
            lines.append(f"  {revealed(approval.description)}")
        arguments = approval.arguments
        if approval.edited is not None and approval.status == "pending":
            lines.append("  edited by somebody who said yes:")
        if arguments is not None:
            lines.append(arguments_text(arguments))
        elif approval.details:
            lines.append(shown_as_json(approval.details))
        text = "\n".join(lines)
        if not whole:
            text = cut_text(text, _DETAIL_LINES, _DETAIL_CHARACTERS, hint="; v shows all")
        self._screen.show(Note(text))

    async def _line(self, question: str) -> str:
        """Return the next line the person types. Raises `_Left` at the end of input."""
        if not self._lines:
            self._screen.ask(question)
            typed = await self._typed.get()
            if isinstance(typed, EndOfInput):
                raise _Left
            self._lines = typed.text.split("\n")
        return self._lines.pop(0)

    def _forget_typed(self) -> None:
        """Drop what was typed before the question was there to be read."""
        self._lines.clear()
        while not self._typed.empty():
            if isinstance(self._typed.get_nowait(), EndOfInput):
                raise _Left

    def _on_interrupt(self) -> None:
        """Leave at once. A Ctrl-C in the editor is the editor's."""
        if self._task is not None and not self._is_editing:
            self._task.cancel()

    def _on_typed(self, typed: Entry | EndOfInput) -> None:
        self._screen.note_entered()
        self._typed.put_nowait(typed)


def _row(approval: Waiting, now: datetime) -> str:
    """Return one line of the list: id, age, risk, action, who asks, when it expires."""
    who = one_line(approval.agent_name or "", 40)
    if not who:
        who = "-" if approval.agent_id is None else f"agent {approval.agent_id}"
    left = ""
    if approval.expires_at is not None:
        left = f"expires in {_span((approval.expires_at - now).total_seconds())}"
    age = _span((now - approval.requested_at).total_seconds())
    risk, action = one_line(approval.risk_level, 10), one_line(approval.action, 60)
    row = f"{approval.id:>6}  {age:>5} old  {risk:<8}  {action:<32}  {who:<20}  {left}".rstrip()
    return f"{row}  {approval.progress}".rstrip()


def _fate(approval: Waiting) -> str:
    """Say how it was decided, by whom and when, or how many have said yes so far."""
    if approval.status == "pending":
        return f"{approval.id}: {approval.progress or 0} said yes, it waits for more"
    parts = [f"{approval.id}: {one_line(approval.status, 20)}"]
    if approval.decided_by is not None:
        parts.append(f"by user {approval.decided_by}")
    if approval.decided_at is not None:
        parts.append(f"at {approval.decided_at.isoformat(timespec='seconds')}")
    why = approval.rejection_reason or approval.decision_note
    if why:
        parts.append(f"({one_line(why, 200)})")
    return " ".join(parts)


def _span(seconds: float) -> str:
    """Return a time in the largest unit that fits."""
    rest = max(0, int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if rest >= size:
            return f"{rest // size} {unit}"
    return f"{rest} s"

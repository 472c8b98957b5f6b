"""One chat in a terminal: a session, its socket, the person and the screen, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from conclave.errors import ConclaveError
from conclave.terminal.client import Client
from conclave.terminal.commands import Commands, Outcome, Switch
from conclave.terminal.editor import editor_command
from conclave.terminal.items import (
    Action,
    Command,
    Edit,
    Leave,
    Note,
    Problem,
    ReadBack,
    Send,
)
from conclave.terminal.keyboard import EndOfInput, Entry
from conclave.terminal.screen import Screen
from conclave.terminal.session import Session
from conclave.terminal.stream import ChatStream, Lost
from conclave.terminal.wire import Frame, ToolCall


@dataclass(frozen=True)
class Interrupt:
    """Ctrl-C."""


@dataclass(frozen=True)
class StreamFailed:
    """The stream cannot go on."""

    error: BaseException


@dataclass(frozen=True)
class Finished:
    """A command is done."""

    outcome: Outcome


Event = Frame | Lost | Entry | EndOfInput | Interrupt | StreamFailed | Finished


class Conversation:
    """Runs one chat until the person leaves it; events come one after the other.

    `edit` hands the terminal to an editor; `asks`: there is a person to put questions to.
    """

    def __init__(
        self,
        *,
        chat_id: str,
        session: Session,
        stream: ChatStream,
        client: Client,
        screen: Screen,
        events: asyncio.Queue[Event],
        edit: Callable[[list[str], ToolCall], Awaitable[str | None]],
        asks: bool,
    ) -> None:
        self.chat_id = chat_id
        self.session = session
        self._stream = stream
        self._client = client
        self._commands = Commands(client, chat_id)
        self._screen = screen
        self._events = events
        self._edit = edit
        self._asks = asks
        self._command: asyncio.Task[None] | None = None
        self.typed_ahead: list[Entry | EndOfInput] = []
        """What was typed while a command ran: it is meant for after it."""

    async def run(self) -> int | Switch:
        """Return the exit status, or where to go on.

        Raises `ServerRefused` where the socket is refused for good.
        """
        listener = asyncio.create_task(self._listen())
        try:
            while True:
                self._ask()
                outcome = await self._take(await self._events.get())
                if outcome is not None:
                    return outcome
        finally:
            tasks = [task for task in (listener, self._command) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self) -> None:
        if self._asks and self._events.empty() and self._command is None:
            self._screen.ask(self.session.prompt)

    async def _take(self, event: Event) -> int | Switch | None:
        match event:
            case Finished(outcome):
                return await self._finish(outcome)
            case StreamFailed(error):
                raise error
            case Interrupt() if self._command is not None:
                self._command.cancel()
                return await self._finish(Note("No longer waiting for that."))
            case Entry() | EndOfInput() if self._command is not None:
                self.typed_ahead.append(event)
                return None
            case Entry(text) if text.startswith("/") and "\n" in text:
                first, _, rest = text.partition("\n")
                self.typed_ahead[:0] = [Entry(first), Entry(rest)]
                return await self._catch_up()
            case _:
                return await self._do_all(self._actions(event))

    def _actions(self, event: Event) -> Sequence[Action]:
        match event:
            case Frame():
                return self.session.on_frame(event)
            case Lost(reason):
                return self.session.on_lost(reason)
            case Entry(text):
                return self.session.on_entry(text)
            case EndOfInput():
                return self.session.on_end_of_input()
            case _:
                return self.session.on_interrupt()

    async def _do_all(self, actions: Sequence[Action]) -> int | None:
        for action in actions:
            match action:
                case Leave(status):
                    return status
                case Send(message):
                    await self._stream.send(message)
                case Command(name, argument):
                    if self._command is not None:
                        self.typed_ahead.append(Entry(f"/{name} {argument}"))
                        continue
                    self._command = asyncio.create_task(self._run(name, argument))
                case Edit(call):
                    await self._do_all(await self._edited(call))
                case ReadBack():
                    await self._do_all(await self._read_back())
                case _:
                    self._screen.show(action)
        return None

    async def _edited(self, call: ToolCall) -> list[Action]:
        command = editor_command()
        if not command:
            self._screen.show(Note("Neither VISUAL nor EDITOR is set."))
            return self.session.read_arguments()
        return self.session.on_edited(call.id, await self._edit(command, call))

    async def _read_back(self) -> list[Action]:
        try:
            return self.session.on_transcript(await self._client.turns(self.chat_id))
        except ConclaveError as error:
            return [Problem(f"Text is missing here: {error.message}")]

    async def _run(self, name: str, argument: str) -> None:
        try:
            outcome = await self._commands.run(name, argument)
        except ConclaveError as error:
            outcome = Problem(error.message)
        self._events.put_nowait(Finished(outcome))

    async def _finish(self, outcome: Outcome) -> int | Switch | None:
        self._command = None
        if isinstance(outcome, Switch):
            return outcome
        self._screen.show(outcome)
        return await self._catch_up()

    async def _catch_up(self) -> int | Switch | None:
        """Take what was typed ahead, until a command runs again."""
        while self.typed_ahead and self._command is None:
            outcome = await self._take(self.typed_ahead.pop(0))
            if outcome is not None:
                return outcome
        return None

    async def _listen(self) -> None:
        try:
            async with aclosing(self._stream.items()) as items:
                async for item in items:
                    self._events.put_nowait(item)
        except Exception as error:  # raised again where the events are taken
            self._events.put_nowait(StreamFailed(error))

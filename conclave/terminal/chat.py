"""`conclave chat`: one terminal, in one chat after the other."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass

from conclave.errors import ConclaveError, Invalid
from conclave.terminal.client import Client
from conclave.terminal.commands import Switch
from conclave.terminal.conversation import Conversation, Event, Interrupt
from conclave.terminal.editor import edit
from conclave.terminal.items import INTERRUPTED, Note, Problem, Said
from conclave.terminal.keyboard import EndOfInput, Entry, Keyboard
from conclave.terminal.screen import Screen, terminal_screen
from conclave.terminal.server import Server
from conclave.terminal.session import Session
from conclave.terminal.stream import ChatStream
from conclave.terminal.wire import ToolCall

_MESSAGES_OF_BEFORE = 6
_ENOUGH_PRESSES = 3
"""Of Ctrl-C: something hangs."""
_ONE_SHOT_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class ChatOptions:
    """What the caller of `conclave chat` asked for.

    With `message` it is sent, answered and over: tools run only where `allows_tools`.
    """

    chat_id: str | None = None
    agent_id: int | None = None
    profile: str | None = None
    project_id: int | None = None
    stream: bool = True
    message: str | None = None
    allows_tools: bool = False

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        if self.allows_tools and self.message is None:
            raise Invalid("--yes", "--yes goes with a message; /permissions is for the rest")
        if self.message is not None and not self.message.strip():
            raise Invalid("message", "There is nothing to send")

    @property
    def is_one_shot(self) -> bool:
        """Whether nobody sits before it."""
        return self.message is not None


async def chat(server: Server, options: ChatOptions) -> int:
    """Chat until the person leaves or the one message is answered; return the exit status.

    Raises what opening the first chat raises.
    """
    screen = terminal_screen(spoken_apart=options.is_one_shot)
    if not server.is_loopback and server.url.startswith("http://"):
        screen.show(Note("The token goes over the network in the clear: https would hide it."))
    async with Client(server) as client:
        return await Chat(server, client, options, screen).run()


class Chat:
    """One terminal, in one chat after the other."""

    def __init__(
        self, server: Server, client: Client, options: ChatOptions, screen: Screen
    ) -> None:
        self._server = server
        self._client = client
        self._options = options
        self._screen = screen
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._keyboard = Keyboard(0, self._on_typed)
        self._is_editing = False
        self._presses = 0
        """Of Ctrl-C, since anything was typed."""
        self._task: asyncio.Task[object] | None = None
        self._is_in_chat = False
        """Whether there is a conversation to take a Ctrl-C."""

    async def run(self) -> int:
        """Go from chat to chat; return the exit status."""
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        loop.add_signal_handler(signal.SIGINT, self._on_interrupt)
        if not self._options.is_one_shot:
            self._keyboard.start()
        try:
            conversation = await self._open(self._options.chat_id)
            while True:
                self._is_in_chat = True
                outcome = await conversation.run()
                self._is_in_chat = False
                if isinstance(outcome, int):
                    return self._left(conversation, outcome)
                conversation = await self._next(conversation, outcome)
        except asyncio.CancelledError:
            return INTERRUPTED
        finally:
            self._keyboard.stop()
            loop.remove_signal_handler(signal.SIGINT)
            self._screen.finish()

    def _left(self, conversation: Conversation, status: int) -> int:
        if not self._options.is_one_shot:
            self._screen.show(Note(f"Go on with: conclave chat --chat {conversation.chat_id}"))
        return status

    async def _open(self, chat_id: str | None) -> Conversation:
        wanted = self._options
        if chat_id is not None:
            return await self._resume(chat_id)
        made = await self._client.create_chat(
            agent_id=wanted.agent_id, profile=wanted.profile, project_id=wanted.project_id
        )
        self._screen.show(Note(f"Chat {made.chat_id}"))
        return self._conversation(made.chat_id, after=0)

    async def _resume(self, chat_id: str) -> Conversation:
        turns = await self._client.turns(chat_id)
        if self._options.chat_id == chat_id and self._options.profile is not None:
            await self._client.set_profile(chat_id, self._options.profile)
        conversation = self._conversation(chat_id, after=None)
        conversation.session.note_history(turns)
        if not self._options.is_one_shot:
            self._screen.show(Note(f"Chat {chat_id}, {len(turns)} messages"))
            for turn in turns[-_MESSAGES_OF_BEFORE:]:
                if turn.content:
                    self._screen.show(Said(turn.role, turn.content))
        return conversation

    async def _next(self, current: Conversation, switch: Switch) -> Conversation:
        """Open another chat; where that fails, go on with the one there is."""
        for typed in current.typed_ahead:
            self._events.put_nowait(typed)
        try:
            return await self._open(switch.chat_id)
        except ConclaveError as error:
            self._screen.show(Problem(error.message))
            return await self._resume(current.chat_id)

    def _conversation(self, chat_id: str, *, after: int | None) -> Conversation:
        before, self._events = self._events, asyncio.Queue[Event]()
        while not before.empty():
            event = before.get_nowait()
            if isinstance(event, Entry | EndOfInput):
                self._events.put_nowait(event)
        wanted = self._options
        patience = _ONE_SHOT_PATIENCE_SECONDS if wanted.is_one_shot else None
        verdict = "allow" if wanted.allows_tools else "deny"
        session = Session(
            stream=wanted.stream,
            unattended=verdict if wanted.is_one_shot else None,
            once=wanted.is_one_shot,
        )
        if wanted.message is not None:
            session.say(wanted.message)
        return Conversation(
            chat_id=chat_id,
            session=session,
            stream=ChatStream(self._server, chat_id, after=after, patience=patience),
            client=self._client,
            screen=self._screen,
            events=self._events,
            edit=self._edit,
            asks=not wanted.is_one_shot,
        )

    async def _edit(self, command: list[str], call: ToolCall) -> str | None:
        """Hand the terminal to the editor; its Ctrl-C is not ours."""
        self._keyboard.stop()
        self._is_editing = True
        try:
            return await edit(command, call.arguments)
        finally:
            self._is_editing = False
            self._keyboard.start()

    def _on_typed(self, typed: Entry | EndOfInput) -> None:
        self._presses = 0
        self._screen.note_entered()
        self._events.put_nowait(typed)

    def _on_interrupt(self) -> None:
        """Pass Ctrl-C on; cancel everything where it is pressed and nobody takes it."""
        if self._is_editing:
            return
        self._presses += 1
        if self._task is not None and (not self._is_in_chat or self._presses >= _ENOUGH_PRESSES):
            self._task.cancel()
        self._events.put_nowait(Interrupt())

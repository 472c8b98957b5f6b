"""Slash commands that ask the server something."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from conclave.terminal.cleaning import one_line
from conclave.terminal.client import Client
from conclave.terminal.items import Note, Problem, Shown

_CHATS_SHOWN = 20


@dataclass(frozen=True)
class Switch:
    """Go on in another chat; None makes a new one."""

    chat_id: str | None


Outcome = Shown | Switch


class Commands:
    """The commands of one chat; all raise what the client raises."""

    def __init__(self, client: Client, chat_id: str) -> None:
        self._client = client
        self._chat_id = chat_id
        self._by_name: dict[str, Callable[[str], Awaitable[Outcome]]] = {
            "profile": self._profile,
            "profiles": self._profiles,
            "permissions": self._permissions,
            "context": self._context,
            "compact": self._compact,
            "chats": self._chats,
            "resume": self._resume,
            "new": self._new,
        }

    async def run(self, name: str, argument: str) -> Outcome:
        """Run one; returns what to show, or where to go."""
        return await self._by_name[name](argument)

    async def _profile(self, name: str) -> Outcome:
        if name:
            now = await self._client.set_profile(self._chat_id, name)
            return Note(f"From the next model call on: {now}.")
        now = await self._client.profile(self._chat_id)
        return Note(f"Profile: {now or 'the default one'}.")

    async def _profiles(self, _: str) -> Outcome:
        known = await self._client.profiles()
        lines = [
            f"{'*' if name == known.default else ' '} {one_line(name, 64):<24} "
            f"{one_line(profile.provider, 40)}/{one_line(profile.model, 100)}"
            for name, profile in sorted(known.profiles.items())
        ]
        return Note("\n".join(lines) or "There are no profiles.")

    async def _permissions(self, mode: str) -> Outcome:
        state = await (self._client.set_mode(mode) if mode else self._client.permissions())
        lines = [f"All chats: {state.mode}."]
        lines += [f"  {tool}: {level}" for tool, level in sorted(state.tool_overrides.items())]
        return Note("\n".join(lines))

    async def _context(self, _: str) -> Outcome:
        use = await self._client.context(self._chat_id)
        share = use.current_tokens / use.context_window if use.context_window else 0
        return Note(
            f"{use.current_tokens:,} of {use.context_window:,} tokens ({share:.0%}), "
            f"{use.turns} turns, {use.model or 'no model yet'}; "
            f"summarised at {use.compaction_threshold:.0%}."
        )

    async def _compact(self, _: str) -> Outcome:
        done = await self._client.compact(self._chat_id)
        return Note(
            f"Summarised {done.turns_removed} turns: {done.tokens_before:,} tokens became "
            f"{done.tokens_after:,}."
        )

    async def _chats(self, _: str) -> Outcome:
        chats = await self._client.chats(_CHATS_SHOWN)
        lines = [
            f"{'*' if chat.chat_id == self._chat_id else ' '} {one_line(chat.chat_id, 36)}  "
            f"{chat.message_count:>4}  {one_line(chat.title or '', 60)}"
            for chat in chats
        ]
        return Note("\n".join(lines) or "There are no chats.")

    async def _resume(self, chat_id: str) -> Outcome:
        return Switch(chat_id) if chat_id else Problem("Which one? /chats lists them.")

    async def _new(self, _: str) -> Outcome:
        return Switch(None)

"""What waits to be told: pokes merged into one, text merged into pieces 50 ms apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

from schema.domain.events import Delta

DELTA_INTERVAL = 0.05
"""Seconds between two pieces of the same reply."""
POKE_INTERVAL = 0.02
"""Seconds between two pokes."""
_VOICES_KEPT = 256
_SILENCE = 30.0


@dataclass
class _Voice:
    """One conversation's reply as it is passed on."""

    latest: Delta
    text: str
    """Not passed on yet; it starts at `offset`."""
    offset: int
    due: float

    def continues(self, delta: Delta) -> bool:
        """Whether `delta` is the next piece of the same attempt."""
        return _key(self.latest) == _key(delta) and self.end == delta.offset

    @property
    def end(self) -> int:
        return self.offset + len(self.text)


@dataclass
class Parcel:
    """What is to be told now, the text first."""

    deltas: list[Delta]
    poke: bool

    def __bool__(self) -> bool:
        return self.poke or bool(self.deltas)


def _key(delta: Delta) -> tuple[int, int, int]:
    return delta.turn, delta.step, delta.attempt


class Coalescer:
    """Decides what is told when. Times are the caller's monotonic seconds."""

    def __init__(self) -> None:
        self._voices: dict[int, _Voice] = {}
        self._urgent: list[Delta] = []
        self._poked = False
        self._poke_due = 0.0

    def poke(self) -> None:
        """Ask for a wake-up."""
        self._poked = True

    def add(self, delta: Delta, now: float) -> None:
        """Take a piece of text: the first of an attempt is due at once."""
        voice = self._voices.get(delta.conversation_id)
        if voice is not None and voice.continues(delta):
            voice.text += delta.text
            return
        if voice is not None:
            self._release(voice, now)
        due = now
        if voice is not None and _key(voice.latest) == _key(delta):
            due = voice.due
        self._voices[delta.conversation_id] = _Voice(delta, delta.text, delta.offset, due)

    def flush(self, conversation_id: int, now: float) -> None:
        """Make a conversation's text due."""
        voice = self._voices.get(conversation_id)
        if voice is not None:
            self._release(voice, now)

    def next_due(self) -> float:
        """Return when there is something to tell; infinity when nothing waits."""
        if self._urgent:
            return 0.0
        due = min((voice.due for voice in self._voices.values() if voice.text), default=math.inf)
        return min(due, self._poke_due) if self._poked else due

    def take(self, now: float) -> Parcel:
        """Return what is due, and forget it."""
        for voice in self._voices.values():
            if voice.text and voice.due <= now:
                self._release(voice, now)
        if len(self._voices) > _VOICES_KEPT:
            self._forget_silent(now)
        poke = self._poked and self._poke_due <= now
        if poke:
            self._poked = False
            self._poke_due = now + POKE_INTERVAL
        parcel = Parcel(self._urgent, poke)
        self._urgent = []
        return parcel

    def drop_text(self) -> None:
        """Forget all text: nobody can be told. A poke is kept."""
        self._voices.clear()
        self._urgent = []

    def _release(self, voice: _Voice, now: float) -> None:
        if voice.text:
            piece = {"text": voice.text, "offset": voice.offset}
            self._urgent.append(voice.latest.model_copy(update=piece))
            voice.offset, voice.text = voice.end, ""
            voice.due = now + DELTA_INTERVAL

    def _forget_silent(self, now: float) -> None:
        for conversation_id, voice in list(self._voices.items()):
            if not voice.text and voice.due < now - _SILENCE:
                del self._voices[conversation_id]

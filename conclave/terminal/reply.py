"""What the agent says, pieced together so that nothing is shown twice or left out.

Text comes in pieces while a connection lasts; pieces are not repeated to who was away. The whole
text of a step comes as one frame then, or stands in the transcript.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from conclave.terminal.wire import Turn

_TEXTS_REMEMBERED = 500


class ReplyText:
    """Texts step by step; each method returns what is to be shown now."""

    def __init__(self) -> None:
        self._shown: deque[str] = deque(maxlen=_TEXTS_REMEMBERED)
        """Whole texts that were shown, to compare the transcript with."""
        self._spoken = ""
        self._has_hole = False
        self._dropped = ""
        """Pieces that came after a hole."""

    def miss(self) -> None:
        """Pieces may be missing from here on: no further one can be put in its place."""
        self._has_hole, self._dropped = True, ""

    def hear(self, piece: str) -> str:
        """Take in a piece."""
        if self._has_hole:
            self._dropped += piece
            return ""
        self._spoken += piece
        return piece

    def restart(self) -> bool:
        """The model is asked: what an earlier try said of the step stands for nothing."""
        was_cut, self._spoken = bool(self._spoken), ""
        return was_cut

    def end_message(self, length: int) -> tuple[str, bool]:
        """Close a text whose pieces all went out to this connection; it has so many characters.

        Returns what is to be shown, and whether the transcript is needed to know it.
        """
        if not self._has_hole or len(self._spoken) == length:
            self._has_hole = False
            self._close()
            return "", False
        if len(self._dropped) == length:
            return self.complete(self._dropped), False
        return "", True

    def complete(self, text: str) -> str:
        """Take in the whole text of a step.

        A step that was over before the connection came back says nothing of the one that is
        spoken now: the hole stays until pieces were dropped for it.
        """
        shown = self._close()
        if not text.strip():
            return ""
        if shown.strip():
            self._shown.pop()
        self._shown.append(text)
        return text[len(shown) :] if text.startswith(shown) else f"\n{text}"

    def end_step(self, *, ends_turn: bool = False) -> bool:
        """Close a step that came in pieces; whether the transcript is needed to know its text."""
        if self._has_hole and (self._dropped or self._spoken or ends_turn):
            return True
        self._close()
        return False

    def read_back(self, turns: Sequence[Turn], *, requests: int, is_idle: bool) -> list[str]:
        """Take in the transcript: return what was not shown of the answers to the last requests.

        Where nothing runs any more, the next piece is the first of its step again.
        """
        texts: list[str] = []
        for turn in reversed(turns):
            requests -= turn.role == "user"
            if requests <= 0:
                break
            if turn.role == "assistant" and turn.content and turn.content.strip():
                texts.append(turn.content)
        known = [text.strip() for text in self._shown]
        missing: list[str] = []
        for text in reversed(texts):
            if text.strip() in known:
                known.remove(text.strip())
            else:
                missing.append(text)
        rest = [self.complete(text) for text in missing]
        self._close()
        self._has_hole = self._has_hole and not is_idle
        return [text for text in rest if text]

    def remember(self, turns: Sequence[Turn]) -> None:
        """Take the transcript as shown."""
        self._shown.extend(
            turn.content for turn in turns if turn.role == "assistant" and turn.content
        )

    def _close(self) -> str:
        """End the step; return what was shown of it."""
        spoken, self._spoken = self._spoken, ""
        if spoken.strip():
            self._shown.append(spoken)
        if self._dropped:
            self._has_hole, self._dropped = False, ""
        return spoken

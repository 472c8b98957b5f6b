"""What of a conversation is put before the model: pure code over the record.

Past three quarters of the window the beginning of a conversation is summarised, all but its last
exchanges (`compaction_of`). What is then sent always fits (`fitted`): where even the last
exchanges are too long, what is longest is cut, with a note in its place.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from conclave.conversations.clipping import Caps
from conclave.conversations.errors import PromptTooLong
from conclave.conversations.model_choice import ModelChoice
from conclave.conversations.prompt import Shown, build_prompt
from conclave.conversations.summary import summary_request
from conclave.conversations.turn_repository import Opening, TranscriptLine
from conclave.ports.breakers import Permit
from schema.domain.agents import AgentConfig
from schema.domain.base import Shape
from schema.domain.compaction import TURNS_KEPT
from schema.domain.conversations import ConversationKind, MessageRole
from schema.domain.llm import ModelRequest, ToolSpec

_TOOL_SHARES = (4, 16, 64)
"""An answer of a tool takes a quarter of the window at most; less where it must."""
_TEXT_SHARES = (2, 4, 8, 16, 32, 64, 128, 256)

_BYTES_PER_TOKEN_AT_LEAST = 2
_BYTES_PER_TOKEN_MOSTLY = 4


class Round(Shape):
    """One model call that summarises; a long beginning takes several."""

    through_seq: int
    turns_removed: int
    is_last: bool
    request: ModelRequest


class Compaction(Shape):
    """A stored summary, which stands in for the messages up to `through_seq`.

    Its figures are those of all rounds of its compaction; the last one is `finished`.
    """

    through_seq: int
    summary: str
    tokens_before: int
    tokens_after: int
    turns_removed: int
    finished: bool
    call_id: int


@dataclass(frozen=True)
class Context:
    """A conversation as one model call of an agent sees it: `compaction` stands in for what comes
    before `lines`."""

    opening: Opening
    lines: Sequence[TranscriptLine]
    compaction: Compaction | None
    tools: Sequence[ToolSpec]
    choice: ModelChoice
    timeout: float
    count: Callable[[ModelRequest], int]
    permit: Permit
    """Leave to make the one call that is made of it."""

    @property
    def config(self) -> AgentConfig:
        """How the agent's model is called."""
        return self.opening.config or AgentConfig()

    @property
    def summary(self) -> str | None:
        """What stands in for the messages before `lines`."""
        return None if self.compaction is None else self.compaction.summary

    @property
    def unfinished(self) -> Compaction | None:
        """The round whose compaction goes on."""
        last = self.compaction
        return None if last is None or last.finished else last

    @cached_property
    def whole(self) -> ModelRequest:
        """The request that shows everything, but for what is overlong among tools' answers."""
        return self.request(self.lines, self._shown(0, self._caps(_TOOL_SHARES[0])))

    @cached_property
    def tokens(self) -> int:
        """The size of its prompt: counted for a chat, whose size is shown, and wherever it may
        be past the threshold; else an estimate, because a tokenizer takes 100 MB."""
        if self.is_counted:
            return self.count(self.whole)
        return self._size // _BYTES_PER_TOKEN_MOSTLY

    @property
    def is_counted(self) -> bool:
        """Whether `tokens` takes a tokenizer."""
        if self.opening.kind == ConversationKind.CHAT:
            return True
        return self._size // _BYTES_PER_TOKEN_AT_LEAST > self.choice.threshold

    @cached_property
    def _size(self) -> int:
        return _bytes(self.whole)

    @cached_property
    def exchanges(self) -> list[int]:
        """Where each exchange begins: with what a person says, or with a turn."""
        return [
            index
            for index, line in enumerate(self.lines)
            if index == 0
            or line.role is MessageRole.USER
            or line.turn != self.lines[index - 1].turn
        ]

    @property
    def is_compactable(self) -> bool:
        """Whether there is more than what a compaction keeps."""
        return len(self.exchanges) > TURNS_KEPT

    @property
    def must_be_compacted(self) -> bool:
        """Whether it is compacted before anything is sent.

        Not for a fallback: its window, which may be smaller, does not decide for good what the
        agent's own model will no longer see. What does not fit is cut off for this call.
        """
        if self.choice.fallback_for is not None:
            return False
        is_full = self.tokens > self.choice.threshold
        return self.is_compactable and (is_full or self.unfinished is not None)

    def compaction_of(self) -> Round:
        """Return the next round of a compaction; there must be something to compact.

        A round takes as much as fits into one call, from the beginning on, and never splits a
        call of a tool from its answer: they are one line.
        """
        beginning = self.lines[: self.exchanges[-TURNS_KEPT]]
        limit = self.choice.limit(self.config.max_tokens)
        sizes = range(1, len(beginning) + 1)
        fitting = bisect_left(
            sizes, True, key=lambda size: self._summary_of(beginning, size) > limit
        )
        taken = max(1, fitting)
        if taken < len(beginning):
            # Between two exchanges, unless not even the first one fits.
            taken = max((start for start in self.exchanges if start <= taken), default=0) or taken
        removed = sum(1 for start in self.exchanges if start < taken)
        return Round(
            through_seq=beginning[taken - 1].seq,
            turns_removed=removed,
            is_last=taken == len(beginning),
            request=self._summary_request(beginning[:taken]),
        )

    def after(self, done: Round, summary: str) -> int:
        """Return the size of the prompt once a round's summary stands in for its messages."""
        rest = [line for line in self.lines if line.seq > done.through_seq]
        shown = Shown(summary=summary, caps=self._caps(_TOOL_SHARES[0]))
        return self.count(self.request(rest, shown))

    def fitted(self) -> tuple[ModelRequest, int]:
        """Return the request to send and the size of its prompt, which fits into the window.

        Raises `PromptTooLong` where it cannot be made to.
        """
        limit = self.choice.limit(self.config.max_tokens)
        for request in self._shorter_and_shorter(limit):
            tokens = self.tokens if request is self.whole else self.count(request)
            if tokens <= limit:
                reply = min(request.max_tokens, self.choice.window - tokens)
                return request.model_copy(update={"max_tokens": reply}), tokens
        raise PromptTooLong(self.choice.model, self.choice.window)

    def _shorter_and_shorter(self, limit: int) -> Iterator[ModelRequest]:
        """Yield what may be sent: shorter answers of tools, fewer exchanges, shorter messages."""
        yield self.whole
        for share in _TOOL_SHARES[1:]:
            yield self._from(0, self._caps(share))
        tightest = _TOOL_SHARES[-1]
        starts = self.exchanges or [0]
        first_fitting = bisect_left(
            starts,
            True,
            key=lambda start: self.count(self._from(start, self._caps(tightest))) <= limit,
        )
        start = starts[min(first_fitting, len(starts) - 1)]
        yield self._from(start, self._caps(tightest))
        for share in _TEXT_SHARES:
            yield self._from(start, self._caps(max(share, tightest), share))

    def _from(self, start: int, caps: Caps) -> ModelRequest:
        return self.request(self.lines[start:], self._shown(start, caps))

    def _caps(self, tool: int, text: int | None = None) -> Caps:
        return Caps.of(self.choice.window, tool=tool, text=text)

    def _shown(self, omitted: int, caps: Caps) -> Shown:
        return Shown(summary=self.summary, omitted=omitted, caps=caps)

    def request(self, lines: Sequence[TranscriptLine], shown: Shown) -> ModelRequest:
        """Return the call of the agent's turn with those lines."""
        names = self.opening.participants
        return ModelRequest(
            provider=self.choice.provider,
            model=self.choice.model,
            messages=build_prompt(self.opening, names, lines, shown),
            temperature=self.config.temperature,
            max_tokens=self.choice.reply_tokens(self.config.max_tokens),
            timeout=self.timeout,
            speaker=self.opening.agent_name or "",
            tools=[*self.tools],
        )

    def _summary_request(self, lines: Sequence[TranscriptLine]) -> ModelRequest:
        return summary_request(
            lines, self.summary, self.choice, self.config.temperature, self.timeout, self._speaker
        )

    @property
    def _speaker(self) -> str:
        return self.opening.agent_name or ""

    def _summary_of(self, beginning: Sequence[TranscriptLine], size: int) -> int:
        return self.count(self._summary_request(beginning[:size]))


def _bytes(request: ModelRequest) -> int:
    """Return how much text a prompt has."""
    texts = [message.content for message in request.messages]
    texts += [
        part
        for message in request.messages
        for call in message.tool_calls
        for part in (call.name, call.arguments)
    ]
    texts += [tool.model_dump_json() for tool in request.tools]
    return sum(len(text.encode()) for text in texts)

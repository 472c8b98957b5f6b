"""What one client watches: which events it sees, in which order, and how far it has come."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass
from enum import Enum, auto

from conclave.db import Database
from conclave.events import EventLog
from schema.domain.events import Delta, Event, EventType, conversation_stream
from schema.domain.identity import Principal

Item = Event | Delta

QUEUE_LIMIT = 1000
REPLAY_PAGE = 500
_LAST_WORDS_SECONDS = 2.0
"""How long a client is still told what it has not heard, once this side ended."""
_VOICES_KEPT = 1000


@dataclass(frozen=True)
class Channel:
    """Which events are wanted; without any id, all of them."""

    name: str
    conversation_id: int | None = None
    circle_id: int | None = None
    agent_id: int | None = None
    with_decisions: bool = False
    """Of a conversation: how its approvals were decided too, which no replay brings."""

    @property
    def stream(self) -> str | None:
        """The one stream the channel follows, where there is one."""
        return None if self.conversation_id is None else conversation_stream(self.conversation_id)

    def shows(self, item: Item) -> bool:
        """Whether the item belongs here. Text deltas are too many for the widest channel."""
        if self.conversation_id is not None:
            return item.conversation_id == self.conversation_id and (
                isinstance(item, Delta) or item.stream == self.stream or self._decides(item)
            )
        if self.circle_id is not None:
            return item.circle_id == self.circle_id
        if self.agent_id is not None:
            return item.agent_id == self.agent_id or self._takes_part(item)
        return isinstance(item, Event)

    def _decides(self, event: Event) -> bool:
        return self.with_decisions and event.type in (
            EventType.APPROVAL_DECIDED,
            EventType.APPROVAL_VOTED,
        )

    def _takes_part(self, item: Item) -> bool:
        if isinstance(item, Delta):
            return False
        agent_ids = item.data.get("agent_ids")
        return isinstance(agent_ids, list) and self.agent_id in agent_ids


class Ending(Enum):
    """Why a subscription ended before its client left."""

    TOO_SLOW = auto()
    SHUTDOWN = auto()


class Voices:
    """Lets text pass in order of (turn, step, attempt, offset), and none after its message."""

    def __init__(self) -> None:
        self._heard: dict[int, tuple[int, float, float, float]] = {}

    def accept(self, delta: Delta) -> bool:
        """Whether the text is news; if so it is counted as heard."""
        place = (delta.turn, delta.step, delta.attempt, delta.offset)
        if place < self._heard.get(delta.conversation_id, (0, 0, 0, 0)):
            return False
        self._note(delta.conversation_id, (*place[:3], delta.offset + len(delta.text)))
        return True

    def note_message(self, event: Event) -> None:
        """Remember that a reply is complete; one that names no step completes its turn."""
        if event.type is not EventType.MESSAGE_CREATED or event.data.get("role") != "assistant":
            return
        turn, step = event.data.get("turn"), event.data.get("step")
        if isinstance(turn, int) and event.conversation_id is not None:
            place = (turn, step if isinstance(step, int) else math.inf, math.inf, math.inf)
            self._note(event.conversation_id, place)

    def _note(self, conversation_id: int, place: tuple[int, float, float, float]) -> None:
        latest = max(place, self._heard.pop(conversation_id, place))
        self._heard[conversation_id] = latest
        if len(self._heard) > _VOICES_KEPT:
            del self._heard[next(iter(self._heard))]


class Subscription:
    """A client's view of a channel. The hub offers; the client iterates over `items` once."""

    def __init__(
        self, db: Database, events: EventLog, channel: Channel, principal: Principal
    ) -> None:
        self.channel = channel
        self.ending: Ending | None = None
        self._db = db
        self._events = events
        self._principal = principal
        self._queue: asyncio.Queue[Item | None] = asyncio.Queue()
        self._ended = asyncio.Event()
        self._voices = Voices()
        self._seq = 0
        self.live_after = 0
        """The seq of the channel's stream when the subscription began."""

    @property
    def seq(self) -> int:
        """How far the channel's stream was told."""
        return self._seq

    async def begin(self, after: int | None) -> None:
        """Start behind `after` of the channel's stream, by default behind its last event."""
        if self.channel.stream is not None:
            async with self._db.transaction() as tx:
                last = await self._events.last_seq(tx, self.channel.stream)
            self._seq = last if after is None else min(after, last)
            self.live_after = last

    def offer(self, item: Item) -> None:
        """Take an item if this client may see it; a client that lags too far is cut off."""
        if self.ending is None and self.channel.shows(item) and self._may_see(item):
            if self._queue.qsize() >= QUEUE_LIMIT:
                self.end(Ending.TOO_SLOW)
            else:
                self._queue.put_nowait(item)

    def end(self, ending: Ending) -> None:
        """End the iteration; what has not been taken yet is the next connection's."""
        if self.ending is None:
            self.ending = ending
            self._ended.set()
            self._queue.put_nowait(None)

    async def wait_ended(self) -> None:
        """Return when the subscription was ended from this side."""
        await self._ended.wait()

    async def items(self) -> AsyncGenerator[Item]:
        """Yield what was missed, then what happens, without gap or repetition.

        Raises `Unavailable` where the record cannot be read.
        """
        async for event in self._missed():
            yield event
        while self.ending is None:
            item = await self._queue.get()
            if item is None or self.ending is not None:
                return
            if isinstance(item, Delta):
                if self._voices.accept(item):
                    yield item
            elif self.channel.stream not in (None, item.stream):
                yield item  # a decision: of another stream, so that it moves no place on
            elif self.channel.stream is None or item.seq == self._seq + 1:
                yield self._seen(item)
            elif item.seq > self._seq:
                async for event in self._missed():
                    yield event

    async def _missed(self) -> AsyncGenerator[Event]:
        """Read the channel's stream from the record, as far as it goes."""
        stream, full = self.channel.stream, True
        while stream is not None and full and self.ending is None:
            async with self._db.transaction() as tx:
                page = await self._events.of_stream(
                    tx, stream, after_seq=self._seq, limit=REPLAY_PAGE
                )
            full = len(page) == REPLAY_PAGE
            for event in page:
                seen = self._seen(event)
                if self._may_see(seen):
                    yield seen

    def _seen(self, event: Event) -> Event:
        self._seq = event.seq
        self._voices.note_message(event)
        return event

    def _may_see(self, item: Item) -> bool:
        owner = item.owner
        if owner is None or owner == self._principal.key:
            return True
        is_personal = isinstance(item, Event) and item.type is EventType.NOTIFICATION
        return self._principal.is_admin and not is_personal


async def until_one_ends(
    subscription: Subscription,
    tell: Coroutine[object, object, None],
    *others: Coroutine[object, object, None],
) -> list[BaseException | None]:
    """Serve a watcher until the subscription or anything beside it ends; return how each ended.

    Where it is the subscription, what it still has to say is said, for a moment at most.
    """
    telling = asyncio.create_task(tell)
    tasks = [telling, *map(asyncio.create_task, others)]
    ended = asyncio.create_task(subscription.wait_ended())
    try:
        await asyncio.wait({*tasks, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            await asyncio.wait({telling}, timeout=_LAST_WORDS_SECONDS)
    finally:
        for task in (*tasks, ended):
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    return outcomes

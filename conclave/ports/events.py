"""How processes tell each other of events, and how one waits for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from schema.domain.events import Delta


class StreamWatch(Protocol):
    """Waits for news of one event stream."""

    async def changed(self, stream: str, timeout: float) -> None:
        """Return at the stream's next event, or after `timeout` seconds."""
        ...


class EventBus(Protocol):
    """Tells the other processes that there is something to read, and passes on deltas.

    Nothing it carries is the record: what is lost here is read from the database.
    """

    def poke(self) -> None:
        """Say that events were committed. Returns at once; several pokes become one."""
        ...

    def publish(self, delta: Delta) -> None:
        """Pass on a piece of text. Returns at once."""
        ...

    def flush(self, conversation_id: int) -> None:
        """Hold back no text of this conversation: its message is about to be committed."""
        ...

    def listen(self) -> AsyncIterator[Delta | None]:
        """Yield deltas, and None when events may be waiting."""
        ...

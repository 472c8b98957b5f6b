"""The hub: reads what happened once for everybody who watches in this process.

The bus only says when to look; what is seen comes from the event log, and a poll each second
covers what the bus loses. Text deltas come by the bus alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from api.draining import Draining
from api.subscriptions import Channel, Ending, Item, Subscription
from conclave.adapters.bus.watchers import StreamWatchers
from conclave.container import Core
from conclave.db import Database
from conclave.errors import Unavailable
from conclave.events import Cursor, EventLog, Page
from conclave.logging import get_logger
from conclave.ports.events import EventBus
from schema.domain.events import Event
from schema.domain.identity import Principal

POLL_SECONDS = 1.0
_READ_PAUSE = 0.005
_LONGEST_HELD_WAIT = 0.5
_RESTART_PAUSE = 1.0
_PAGE = 1000

log = get_logger(__name__)


class Hub:
    """One an API process. `start` it in the application's lifespan, `close` it at its end."""

    def __init__(
        self,
        db: Database,
        events: EventLog,
        bus: EventBus,
        watchers: StreamWatchers,
        draining: Draining,
    ) -> None:
        self._db = db
        self._events = events
        self._bus = bus
        self._watchers = watchers
        self._draining = draining
        self._subscriptions: set[Subscription] = set()
        self._look = asyncio.Event()
        self._reading = asyncio.Lock()
        self._cursor: Cursor | None = None
        """None while nobody watches: reading then starts at what is new."""
        self._held_wait = _READ_PAUSE
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to listen and to read."""
        self._watchers.on_wait = self._look.set
        self._tasks = [
            asyncio.create_task(_forever(self._listen), name="hub-listen"),
            asyncio.create_task(_forever(self._read), name="hub-read"),
            asyncio.create_task(self._end_when_draining(), name="hub-drain"),
        ]

    async def close(self) -> None:
        """End every subscription and stop."""
        self._end_all()
        self._watchers.on_wait = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def subscribe(
        self, channel: Channel, principal: Principal, *, after: int | None = None
    ) -> AsyncGenerator[Subscription]:
        """Watch a channel; `after` (a seq of its stream) first replays what came since.

        Raises `Unavailable` where the record cannot be read.
        """
        subscription = Subscription(self._db, self._events, channel, principal)
        self._subscriptions.add(subscription)
        try:
            if self._draining.is_on:
                subscription.end(Ending.SHUTDOWN)
            else:
                async with self._reading:
                    await self._find_place()
                await subscription.begin(after)
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            if not self._is_wanted:
                self._cursor = None

    @property
    def _is_wanted(self) -> bool:
        return bool(self._subscriptions or self._watchers)

    async def _listen(self) -> None:
        async for delta in self._bus.listen():
            if delta is None:
                self._look.set()
            else:
                self._spread(delta)

    async def _read(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS if self._is_wanted else None):
                await self._look.wait()
        self._look.clear()
        if not self._is_wanted:
            return
        try:
            async with self._reading:
                await self._read_all()
        except Unavailable as error:
            log.warning("events_unreadable", error=str(error.__cause__ or error))
        # Under load this is what makes one read serve many commits.
        await asyncio.sleep(_READ_PAUSE)

    async def _read_all(self) -> None:
        page = await self._read_page(await self._find_place())
        while len(page.events) == _PAGE:
            page = await self._read_page(page.cursor)
        self._cursor = page.cursor if self._is_wanted else None
        if page.held_back:
            asyncio.get_running_loop().call_later(self._held_wait, self._look.set)
            self._held_wait = min(self._held_wait * 2, _LONGEST_HELD_WAIT)
        else:
            self._held_wait = _READ_PAUSE

    async def _find_place(self) -> Cursor:
        """Return where to read on; whoever waited before that was known looks for itself."""
        if self._cursor is None:
            async with self._db.transaction() as tx:
                self._cursor = await self._events.head(tx)
            self._watchers.tell_all()
        return self._cursor

    async def _read_page(self, cursor: Cursor) -> Page:
        async with self._db.transaction() as tx:
            page = await self._events.since(tx, cursor, limit=_PAGE)
        self._cursor = page.cursor
        for event in page.events:
            self._spread(event)
        return page

    def _spread(self, item: Item) -> None:
        if isinstance(item, Event):
            self._watchers.tell(item.stream)
        for subscription in self._subscriptions:
            subscription.offer(item)

    async def _end_when_draining(self) -> None:
        await self._draining.wait()
        self._end_all()

    def _end_all(self) -> None:
        for subscription in self._subscriptions:
            subscription.end(Ending.SHUTDOWN)


async def _forever(step: Callable[[], Awaitable[None]]) -> None:
    """Repeat a step; a failure is logged and does not end it."""
    while True:
        try:
            await step()
        except Exception:
            log.exception("hub_step_failed")
            await asyncio.sleep(_RESTART_PAUSE)


@asynccontextmanager
async def running_hub(core: Core, draining: Draining) -> AsyncGenerator[Hub]:
    """Run the hub of a core."""
    hub = Hub(core.db, core.events, core.bus, core.watchers, draining)
    await hub.start()
    try:
        yield hub
    finally:
        await hub.close()


async def get_hub(conn: HTTPConnection) -> Hub:
    """Return the hub of this application."""
    hub: object = getattr(conn.app.state, "hub", None)
    if not isinstance(hub, Hub):
        raise Unavailable("The service is starting.", dependency="hub")
    return hub


HubDep = Annotated[Hub, Depends(get_hub)]

"""The reader of events: what is stored fires the triggers that wait for it.

It runs in every worker; the place it has come to is a row that one of them holds at a time. A
page of events, the firings they make, what is owed for those and the new place are one
transaction, so that nothing is left out and nothing fires twice, whoever dies when. Events whose
transactions are not settled are waited for (`EventLog.since`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from conclave.db import Database, Transaction
from conclave.errors import ConclaveError
from conclave.events import EventLog
from conclave.logging import get_logger
from conclave.ports.events import EventBus
from conclave.triggers.chain import Cause, ChainRepository
from conclave.triggers.commands import NewFiring
from conclave.triggers.dispatch import TriggerDispatch
from conclave.triggers.repository import Listener, ListenerRepository, TriggerRepository
from conclave.triggers.run_repository import RunRepository
from conclave.triggers.templates import look_up
from schema.domain.event_catalogue import matches, names_of
from schema.domain.events import ADMIN_OWNER, Event, EventType
from schema.domain.triggers import MOST_CHAIN_DEPTH, RunStatus

READER: Final = "triggers"
_PAGE = 500
_PAUSE_SECONDS = 1.0
_HELD_SECONDS = 0.05
_IDLE_MOVE_SECONDS = 30.0
"""How often the place is moved on while nobody waits for events."""
_NEVER = frozenset({EventType.NOTIFICATION, EventType.TEXT_DELTA})
_log = get_logger(__name__)


class _Listeners:
    """Who waits for what, by name: most events are nobody's."""

    def __init__(self, version: int, listeners: Sequence[Listener]) -> None:
        self.version = version
        self._by_name: dict[str, list[Listener]] = {}
        self._by_prefix: list[Listener] = []
        for listener in listeners:
            if listener.event_type.endswith("*"):
                self._by_prefix.append(listener)
            else:
                self._by_name.setdefault(listener.event_type, []).append(listener)

    def __bool__(self) -> bool:
        return bool(self._by_name or self._by_prefix)

    def of(self, names: Sequence[str]) -> Iterator[tuple[Listener, str]]:
        """Yield who waits for an event that goes by these names, each once, and the name."""
        for name in names:
            for listener in self._by_name.get(name, ()):
                yield listener, name
        for listener in self._by_prefix:
            name = next((one for one in names if matches(listener.event_type, one)), None)
            if name is not None:
                yield listener, name


class EventConsumer:
    """Reads on whenever there is news, and once a second."""

    def __init__(
        self, db: Database, events: EventLog, bus: EventBus, dispatch: TriggerDispatch
    ) -> None:
        self._db = db
        self._events = events
        self._bus = bus
        self._dispatch = dispatch
        self._listeners = ListenerRepository()
        self._triggers = TriggerRepository()
        self._runs = RunRepository()
        self._chain = ChainRepository()
        self._look = asyncio.Event()
        self._known = _Listeners(-1, [])
        self._moved_at = 0.0

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            while True:
                self._look.clear()
                await self._pause(await self._read_safely())

    async def _listen(self) -> None:
        async for delta in self._bus.listen():
            if delta is None:
                self._look.set()

    async def _read_safely(self) -> float:
        try:
            return await self.read()
        except ConclaveError as error:
            _log.warning("events cannot be read", error=error.code)
        except Exception:
            _log.exception("events cannot be read")
        return _PAUSE_SECONDS

    async def _pause(self, seconds: float) -> None:
        """Wait that long, or until there is news while somebody waits for events."""
        if seconds < _PAUSE_SECONDS or not self._known:
            await asyncio.sleep(seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._look.wait()
        except TimeoutError:
            pass

    async def read(self) -> float:
        """Read one page; return in how many seconds it is worth while to read again."""
        async with self._db.transaction() as tx:
            cursor = await self._listeners.take(tx, READER)
            if cursor is None:
                return _PAUSE_SECONDS
            listeners = await self._known_listeners(tx)
            if not listeners:
                await self._move_on(tx)
                return _PAUSE_SECONDS
            page = await self._events.since(tx, cursor, limit=_PAGE)
            if page.events:
                await self._fire(tx, page.events, listeners)
                await self._listeners.move(tx, READER, *page.cursor)
        if len(page.events) >= _PAGE:
            return 0.0
        return _HELD_SECONDS if page.held_back else _PAUSE_SECONDS

    async def _known_listeners(self, tx: Transaction) -> _Listeners:
        """Return every active event trigger; they are read again where one has changed."""
        version = await self._listeners.version(tx)
        if version != self._known.version:
            self._known = _Listeners(version, await self._listeners.listeners(tx))
        return self._known

    async def _move_on(self, tx: Transaction) -> None:
        """Leave behind what nobody waited for, so that the first who does need not read it."""
        now = time.monotonic()
        if now - self._moved_at > _IDLE_MOVE_SECONDS:
            self._moved_at = now
            await self._listeners.move(tx, READER, *await self._events.head(tx))

    async def _fire(self, tx: Transaction, events: Sequence[Event], listeners: _Listeners) -> None:
        wanted = [
            (event, listener, name)
            for event in events
            if event.type not in _NEVER
            for listener, name in listeners.of(names_of(event))
            if _fits(event, listener)
        ]
        if not wanted:
            return
        causes = await self._chain.causes(tx, list({one.id: one for one, _, _ in wanted}.values()))
        started: list[int] = []
        for event, listener, name in wanted:
            firing = _firing(event, listener, name, causes.get(event.id, Cause()))
            run_id = None if firing is None else await self._runs.insert(tx, firing)
            if firing is None or run_id is None:
                continue
            if firing.status is RunStatus.PENDING:
                started.append(run_id)
            else:
                await self._triggers.count_fired(tx, listener.id, firing.status)
        await self._dispatch.owe_firings(tx, started)


def _fits(event: Event, listener: Listener) -> bool:
    """Whether an event of a name that is waited for is meant."""
    return (
        event.created_at >= listener.armed_at
        and _may_see(event, listener)
        and _passes(event.data, listener.filters)
    )


def _may_see(event: Event, listener: Listener) -> bool:
    """What is somebody's own fires the triggers of that person alone."""
    if event.owner is None:
        return True
    if event.owner == ADMIN_OWNER:
        return listener.is_admins
    return event.owner == listener.created_by_key


def _passes(data: Mapping[str, JsonValue], filters: Mapping[str, object]) -> bool:
    """Whether every field has its value; a field with dots in its own name comes first."""
    for path, value in filters.items():
        found = data[path] if path in data else look_up(dict(data), path)
        if isinstance(found, bool) != isinstance(value, bool) or found != value:
            return False
    return True


def _firing(event: Event, listener: Listener, name: str, cause: Cause) -> NewFiring | None:
    """Return the firing an event makes; None for what the trigger's own action caused."""
    if cause.trigger_id == listener.id:
        return None
    too_deep = cause.depth > MOST_CHAIN_DEPTH
    if too_deep and event.type is EventType.TRIGGER_FIRED:
        return None
    reason = f"It follows from {cause.depth} firings, one from another: {MOST_CHAIN_DEPTH} may"
    return NewFiring(
        trigger_id=listener.id,
        firing_key=f"event-{event.id}",
        event_data={**event.data, "event_type": name, "event_id": event.id},
        chain_depth=cause.depth,
        status=RunStatus.SKIPPED if too_deep else RunStatus.PENDING,
        error=reason if too_deep else None,
    )

"""The event bus on PostgreSQL's NOTIFY: one connection to tell, one to listen.

NOTIFY inside a transaction that stores would put all such commits in one order, so it has a
connection of its own and comes after the commit.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final

import psycopg
from psycopg import AsyncConnection
from pydantic import ValidationError

from conclave.adapters.bus.coalescing import Parcel
from conclave.adapters.bus.notifier import Backoff, Notifier
from conclave.logging import get_logger
from schema.domain.events import Delta

EVENTS_CHANNEL: Final = "conclave_events"
DELTAS_CHANNEL: Final = "conclave_deltas"
PAYLOAD_LIMIT: Final = 7900
"""Bytes; PostgreSQL takes less than 8000."""

log = get_logger(__name__)


def payloads(delta: Delta) -> list[str]:
    """Encode a delta in as many JSON payloads as it takes to keep each under the limit."""
    encoded = delta.model_dump_json()
    if len(encoded.encode()) <= PAYLOAD_LIMIT or len(delta.text) <= 1:
        return [encoded]
    half = len(delta.text) // 2
    rest = {"text": delta.text[half:], "offset": delta.offset + half}
    return [
        *payloads(delta.model_copy(update={"text": delta.text[:half]})),
        *payloads(delta.model_copy(update=rest)),
    ]


async def _connect(database_url: str, name: str) -> AsyncConnection:
    _, _, rest = database_url.partition("://")
    return await AsyncConnection.connect(
        f"postgresql://{rest}",  # libpq knows no other spelling of the scheme
        autocommit=True,
        application_name=name,
        connect_timeout=5,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
    )


class _NotifyWire:
    """Sends a parcel as one statement, whose notifications arrive in its order."""

    def __init__(self, database_url: str, name: str) -> None:
        self._database_url = database_url
        self._name = name
        self._conn: AsyncConnection | None = None

    async def open(self) -> None:
        await self.close()
        self._conn = await _connect(self._database_url, self._name)

    async def send(self, parcel: Parcel) -> None:
        if self._conn is None:
            raise psycopg.OperationalError("not connected")
        channels: list[str] = []
        bodies: list[str] = []
        for delta in parcel.deltas:
            for body in payloads(delta):
                channels.append(DELTAS_CHANNEL)
                bodies.append(body)
        if parcel.poke:
            channels.append(EVENTS_CHANNEL)
            bodies.append("")
        await self._conn.execute(
            "SELECT pg_notify(channel, body)"
            " FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS told(channel, body, place)"
            " ORDER BY place",
            (channels, bodies),
        )

    async def close(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            with suppress(psycopg.Error, OSError):
                await conn.close()


class PostgresBus(Notifier):
    """Implements `EventBus`. A process that never listens opens no listening connection."""

    def __init__(self, database_url: str, name: str) -> None:
        super().__init__(_NotifyWire(database_url, f"{name} notifier"))
        self._database_url = database_url
        self._name = name

    async def listen(self) -> AsyncGenerator[Delta | None]:
        """Yield deltas, and None when events may be waiting: after every (re)connect too.

        Each call has its own connection. Ends only when it is closed.
        """
        backoff = Backoff()
        while True:
            try:
                conn = await _connect(self._database_url, f"{self._name} listener")
                async with conn:
                    await conn.execute(f"LISTEN {EVENTS_CHANNEL}")
                    await conn.execute(f"LISTEN {DELTAS_CHANNEL}")
                    backoff.reset()
                    yield None
                    async with aclosing(conn.notifies()) as notifications:
                        async for told in notifications:
                            if told.channel == EVENTS_CHANNEL:
                                yield None
                            elif (delta := parse_delta(told.payload)) is not None:
                                yield delta
            except (psycopg.Error, OSError) as error:
                log.warning("listener_disconnected", error=str(error))
            await backoff.pause()


def parse_delta(payload: str | bytes) -> Delta | None:
    """Read a delta; None where another version of the program wrote something else."""
    try:
        return Delta.model_validate_json(payload)
    except ValidationError:
        log.warning("delta_not_understood")
        return None

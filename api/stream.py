"""The hub: reads what happened once for everybody who watches in this process.

The bus only says when to look; what is seen comes from the event log, and a poll each second
covers what the bus loses. Text deltas come by the bus alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from api.draining import Draining
from api.subscriptions import Channel, Ending, Item, Subscription
from conclave.db import Database
from conclave.errors import Unavailable
from conclave.events import Cursor, EventLog, Page
from conclave.logging import get_logger
from conclave.ports import EventBus
from schema.domain.events import Delta, Event
from schema.domain.identity import Principal

POLL_SECONDS = 1.0
_READ_PAUSE = 0.005
_LONGEST_HELD_WAIT = 0.5
_RESTART_PAUSE = 1.0
_PAGE = 1000

log = get_logger(__name__)


class Watchers:
    """What the hub tells besides its subscribers: nobody, unless the core gives it somebody."""

    on_wait: Callable[[], None] | None = None

    def __bool__(self) -> bool:
        return False

    def tell(self, stream: str) -> None:
        """Say that something stands on the stream."""

    def tell_all(self) -> None:
        """Say that something may stand on any stream."""

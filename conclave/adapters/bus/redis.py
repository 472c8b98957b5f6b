"""The event bus on Redis or Valkey, where REDIS_URL names one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from typing import Protocol, cast

from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import RedisError

from conclave.adapters.bus.coalescing import Parcel
from conclave.adapters.bus.notifier import Backoff, Notifier
from conclave.adapters.bus.postgres import DELTAS_CHANNEL, EVENTS_CHANNEL, parse_delta
from conclave.logging import get_logger
from schema.domain.events import Delta

log = get_logger(__name__)


class _Pipeline(Protocol):
    def publish(self, channel: str, message: str) -> object: ...
    async def execute(self) -> object: ...


class _Subscription(Protocol):
    async def subscribe(self, *channels: str) -> object: ...
    def listen(self) -> AsyncIterator[dict[str, bytes]]: ...


class Client(Protocol):
    """What is used of redis.asyncio, whose own types are partly unknown."""

    async def ping(self) -> object:
        """Ask whether the server answers."""
        ...

    def pipeline(self, transaction: bool) -> AbstractAsyncContextManager[_Pipeline]:
        """Collect commands."""
        ...

    def pubsub(
        self, *, ignore_subscribe_messages: bool
    ) -> AbstractAsyncContextManager[_Subscription]:
        """Listen to channels."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...


def connect(url: str, name: str) -> Client:
    """Return a client that connects when it is first used; `name` is what the server shows."""
    pool: ConnectionPool = ConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType] -- untyped kwargs
        url, client_name=name.replace(" ", "-"), socket_connect_timeout=5, health_check_interval=15
    )
    return cast("Client", Redis.from_pool(pool))


class _PublishWire:
    """Publishes a parcel in one pipeline, in its order."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._client: Client | None = None

    async def open(self) -> None:
        await self.close()
        self._client = connect(self._url, self._name)
        await self._client.ping()

    async def send(self, parcel: Parcel) -> None:
        if self._client is None:
            raise ConnectionError("not connected")
        async with self._client.pipeline(transaction=False) as pipeline:
            for delta in parcel.deltas:
                pipeline.publish(DELTAS_CHANNEL, delta.model_dump_json())
            if parcel.poke:
                pipeline.publish(EVENTS_CHANNEL, "")
            await pipeline.execute()

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(RedisError, OSError):
                await client.aclose()


class RedisBus(Notifier):
    """Implements `EventBus` on publish and subscribe."""

    def __init__(self, redis_url: str, name: str) -> None:
        super().__init__(_PublishWire(redis_url, f"{name} notifier"))
        self._url = redis_url
        self._name = name

    async def listen(self) -> AsyncGenerator[Delta | None]:
        """Yield deltas, and None when events may be waiting: after every (re)connect too."""
        backoff = Backoff()
        while True:
            client = connect(self._url, f"{self._name} listener")
            try:
                async with client.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(EVENTS_CHANNEL, DELTAS_CHANNEL)
                    backoff.reset()
                    yield None
                    async for told in subscription.listen():
                        if told["channel"] == EVENTS_CHANNEL.encode():
                            yield None
                        elif (delta := parse_delta(told["data"])) is not None:
                            yield delta
            except (RedisError, OSError) as error:
                log.warning("listener_disconnected", error=str(error))
            finally:
                with suppress(RedisError, OSError):
                    await client.aclose()
            await backoff.pause()

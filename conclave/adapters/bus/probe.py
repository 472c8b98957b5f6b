"""Whether Redis or Valkey answers."""

from __future__ import annotations

from redis.exceptions import AuthenticationError, RedisError

from conclave.adapters.bus.redis import connect
from conclave.errors import Unavailable


class RedisProbe:
    """A `DependencyProbe`: one PING on a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def check(self) -> None:
        """Raise `Unavailable` where it does not answer. The driver's words may hold the URL."""
        client = connect(self._url, "health")
        try:
            await client.ping()
        except AuthenticationError:
            raise Unavailable("Redis refused the user or password.") from None
        except (RedisError, OSError) as error:
            raise Unavailable(f"Redis cannot be reached ({type(error).__name__}).") from None
        finally:
            await client.aclose()

"""How the supervisor asks its children whether they are ready."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import psycopg

from conclave.runtime.postgres import Postgres


async def http_says_ok(port: int, path: str) -> bool:
    """Whether a GET on loopback is answered with 200 within three seconds."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
                writer.write(head.encode())
                status = await reader.readline()
                return status.split(b" ")[1:2] == [b"200"]
            finally:
                writer.close()
    return False


async def database_exists(postgres: Postgres) -> bool:
    """Whether the server answers and the product's database is there, made if need be."""
    if not postgres.accepts_connections():
        return False
    try:
        await asyncio.to_thread(postgres.create_database)
    except psycopg.OperationalError:
        return False
    return True


def names_pid(path: Path, pid: int) -> bool:
    """Whether a ready file was written by this process, not by one before it."""
    with contextlib.suppress(OSError):
        return path.read_text().strip() == str(pid)
    return False

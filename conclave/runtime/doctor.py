"""`conclave doctor`: looks at what the stack stands on and changes nothing."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import psycopg

from conclave.runtime.plan import Ports
from conclave.runtime.portcheck import holder, is_free
from conclave.runtime.temporal import is_serving
from conclave.settings import Settings

_SCARCE_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `good` is None where it is merely worth knowing."""

    subject: str
    detail: str
    good: bool | None


async def examine(settings: Settings, data_dir: Path) -> list[Finding]:
    """Look at everything."""
    return [
        _python(),
        _disk(data_dir),
        *(_port(name, getattr(Ports(), name)) for name in (entry.name for entry in fields(Ports))),
        await asyncio.to_thread(_database, settings),
        await _temporal(settings),
        _key(settings),
        await asyncio.to_thread(_git),
    ]


def _python() -> Finding:
    version = platform.python_version()
    return Finding("Python", f"{version} on {platform.system()}", sys.version_info >= (3, 11))


def _disk(data_dir: Path) -> Finding:
    there = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    free = shutil.disk_usage(there).free
    writable = os.access(there, os.W_OK)
    detail = f"{data_dir}: {free / 1024**3:.1f} GB free{'' if writable else ', not writable'}"
    return Finding("Disk", detail, writable and free > _SCARCE_BYTES)


def _port(name: str, port: int) -> Finding:
    if is_free(port):
        return Finding(f"Port {port} ({name})", "free", True)
    return Finding(f"Port {port} ({name})", f"in use by {holder(port) or 'a process'}", None)


def _database(settings: Settings) -> Finding:
    if "DATABASE_URL" not in os.environ:
        return Finding("Database", "DATABASE_URL is not set: `up` brings its own", None)
    try:
        with psycopg.connect(settings.database_url, connect_timeout=3) as conn:
            version = conn.info.server_version
            row = conn.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")
            has_vector = row.fetchone() is not None
    except psycopg.Error as error:
        return Finding("Database", str(error).strip().splitlines()[-1], False)
    detail = f"PostgreSQL {version // 10000}, pgvector {'there' if has_vector else 'missing'}"
    return Finding("Database", detail, has_vector)


async def _temporal(settings: Settings) -> Finding:
    if "TEMPORAL_ADDRESS" not in os.environ:
        return Finding("Temporal", "TEMPORAL_ADDRESS is not set: `up` brings its own", None)
    serving = await is_serving(settings.temporal_address, settings.temporal_namespace)
    return Finding(
        "Temporal", f"{settings.temporal_address} {'answers' if serving else 'is silent'}", serving
    )


def _key(settings: Settings) -> Finding:
    if settings.encryption_key is None:
        return Finding("ENCRYPTION_KEY", "not set: `up` makes and keeps one", None)
    from conclave.crypto import Keyring

    try:
        Keyring.parse(settings.encryption_key.get_secret_value())
    except ValueError as error:
        return Finding("ENCRYPTION_KEY", str(error), False)
    return Finding("ENCRYPTION_KEY", "set", True)


def _git() -> Finding:
    """Projects alone need git: without it everything else runs."""
    from conclave.adapters.git.errors import GitMissing
    from conclave.adapters.git.program import find_git

    try:
        path, version = find_git()
    except GitMissing as error:
        return Finding("git", error.message, None)
    return Finding("git", f"{'.'.join(map(str, version))} at {path}", True)

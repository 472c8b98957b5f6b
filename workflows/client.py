"""The Temporal client every process connects with."""

from __future__ import annotations

from temporalio.client import Client
from temporalio.converter import DataConverter


async def connect(
    address: str, namespace: str, converter: DataConverter, *, lazy: bool = False
) -> Client:
    """Connect to the server; `lazy` puts it off to the first call, so that an API starts
    without it. Raises RuntimeError where a server that is needed cannot be reached."""
    return await Client.connect(address, namespace=namespace, data_converter=converter, lazy=lazy)

"""The embedded Temporal server: what is registered with it, once and again."""

import asyncio

from temporalio.client import Client

from conclave.runtime.temporal import (
    SEARCH_ATTRIBUTES,
    TemporalServer,
    is_serving,
    register_search_attributes,
)
from tests.harness.servers import free_port


async def test_search_attributes_are_registered_and_a_second_time_changes_nothing(
    temporal_address: str,
):
    assert await register_search_attributes(temporal_address, "default") == []
    client = await Client.connect(temporal_address)
    query = " AND ".join(f"`{name}` IS NULL" for name in SEARCH_ATTRIBUTES)
    assert [item async for item in client.list_workflows(query)] == []


async def test_two_starters_at_once_both_find_the_attributes(temporal_address: str):
    both = (register_search_attributes(temporal_address, "default") for _ in range(2))
    assert await asyncio.gather(*both) == [[], []]


async def test_nobody_listening_is_not_serving():
    assert not await is_serving(f"127.0.0.1:{free_port()}", "default")


def test_the_ui_is_told_where_the_codec_is_and_stays_on_loopback():
    command = TemporalServer(
        port=1, ui_port=2, database=None, codec_endpoint="http://127.0.0.1:3/codec"
    ).command()
    assert command[command.index("--ui-codec-endpoint") + 1] == "http://127.0.0.1:3/codec"
    assert command[command.index("--ip") + 1] == "127.0.0.1"
    assert "--ui-disable-news-fetch" in command

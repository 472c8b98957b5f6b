"""SIGTERM: readiness first, the server's own handler after the grace."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from api.draining import Draining, drain_on_sigterm
from tests.waiting import until


@pytest.fixture
def told() -> Iterator[list[int]]:
    """Numbers of the signals the server's own handler got."""
    numbers: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        numbers.append(number)

    before = signal.signal(signal.SIGTERM, handler)
    yield numbers
    signal.signal(signal.SIGTERM, before)


async def test_draining_begins_before_the_server_is_told(told: list[int]):
    draining = Draining()
    with drain_on_sigterm(draining, grace=0.2):
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: draining.is_on)
        assert told == []
        await until(lambda: told == [signal.SIGTERM])


async def test_a_second_signal_cuts_the_grace_short(told: list[int]):
    draining = Draining()
    with drain_on_sigterm(draining, grace=3600):
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: draining.is_on)
        assert told == []
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: told, what="the server to be told")
        assert told == [signal.SIGTERM]


async def test_the_servers_handler_comes_back_afterwards(told: list[int]):
    handler = signal.getsignal(signal.SIGTERM)
    with drain_on_sigterm(Draining(), grace=1):
        assert signal.getsignal(signal.SIGTERM) is not handler
    assert signal.getsignal(signal.SIGTERM) is handler

"""Chats that wait for a verdict cost nothing and outlive everything. 1,000 of them: bench."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from conclave.crypto import new_key
from tests.harness.waiting_chats import waiting_chats

CHATS = 50
WATCHED_SECONDS = 5.0


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory that PostgreSQL's user can pass through, with a short path for its socket."""
    with TemporaryDirectory(prefix="wait-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@pytest.mark.timeout(600)
async def test_chats_that_wait_poll_nothing_and_survive_a_restart_of_everything(root: Path):
    key = new_key()
    async with waiting_chats(root, key) as before:
        await before.open(1)
        await before.quiet(1)
        idle, memory = await before.idle_rates(WATCHED_SECONDS), before.memory_mb()
        await before.open(CHATS - 1)
        await before.quiet(idle.requests + 1)
        waiting = await before.idle_rates(WATCHED_SECONDS)
        grown = before.memory_mb() - memory
    # A poll a minute by each of them would be nearly one a second.
    assert waiting.transactions - idle.transactions < 0.5
    assert waiting.requests - idle.requests < 0.5
    assert grown < 50
    async with waiting_chats(root, key) as after:
        assert await after.waiting() == CHATS
        assert after.outside.sent() == []
        assert await after.decide_all() == CHATS
        sent = after.outside.sent()
        assert len(sent) == len(set(sent)) == CHATS

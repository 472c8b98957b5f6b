"""The short form of the chaos run; the long one is `make chaos`."""

import random
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.chaos.campaign import Plan, run
from tests.chaos.kills import Kind
from tests.chaos.report import figures


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory that PostgreSQL's user can pass through, with a short path for its socket."""
    with TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_nothing_is_lost_and_nothing_happens_twice_whatever_is_killed(root: Path):
    outcome = await run(Plan(kills=2, seed=random.randrange(10**6)), root, print)
    print(figures(outcome))
    assert outcome.broken == []
    for kind in Kind:
        assert sum(kill.counts for kill in outcome.kills if kill.kind is kind) >= 2, kind

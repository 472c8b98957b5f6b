"""The short form of the chaos run over all kinds of work; the long one is `make chaos`."""

import random
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.chaos.kills import Kind
from tests.chaos.work.campaign import PLACES, Plan, run
from tests.chaos.work.report import figures


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory that PostgreSQL's user can pass through, with a short path for its socket."""
    with TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@pytest.mark.chaos
@pytest.mark.timeout(1200)
async def test_no_work_is_lost_or_done_twice_whatever_is_killed(root: Path):
    plan = Plan(kills=2 * len(Kind), failpoints=3, seed=random.randrange(10**6), players=8)
    outcome = await run(plan, root, print)
    print(figures(outcome), *outcome.broken, sep="\n")
    assert outcome.broken == []
    for kind in Kind:
        assert sum(kill.counts for kill in outcome.kills if kill.kind is kind) >= 2, kind
    for place in PLACES:
        assert outcome.struck[place] >= 3, place
    assert outcome.seen.lines
    assert outcome.seen.letters

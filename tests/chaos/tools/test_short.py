"""The short form of the chaos run over tools; the long one is part of `make chaos`."""

import random
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.chaos.tools.campaign import Plan, run
from tests.chaos.tools.report import figures


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory that PostgreSQL's user can pass through, with a short path for its socket."""
    with TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_no_line_is_sent_twice_and_every_cut_call_is_told_of(root: Path):
    outcome = await run(Plan(kills=10, seed=random.randrange(10**6)), root, print)
    print(figures(outcome), *outcome.broken, sep="\n")
    assert outcome.broken == []
    assert sum(kill.counts for kill in outcome.kills) >= 10
    assert any(row["status"] == "unknown" for row in outcome.seen.ledger)

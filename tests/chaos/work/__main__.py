"""A run over work alone, which keeps what is broken: `python -m tests.chaos.work --kills 7`."""

from __future__ import annotations

import argparse
import asyncio
import pickle
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.work.campaign import Plan, run
from tests.chaos.work.report import figures


def main() -> int:
    """Run and print; 1 where something is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=7)
    parser.add_argument("--failpoints", type=int, default=1)
    parser.add_argument("--workflows", type=int, default=0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="chaos-"))
    root.chmod(0o711)
    plan = Plan(
        kills=given.kills, failpoints=given.failpoints, seed=given.seed, workflows=given.workflows
    )
    outcome = asyncio.run(run(plan, root, lambda line: print(line, flush=True)))
    print(figures(outcome), *outcome.broken, sep="\n")
    (root / "outcome.pickle").write_bytes(pickle.dumps(outcome.seen))
    print(root)
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())

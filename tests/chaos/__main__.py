"""The long form: `python -m tests.chaos --kills 10`; writes docs/reliability.md."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from tests.chaos import report
from tests.chaos.campaign import Plan, run

_PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)


def main() -> int:
    """Run, print, and write the page where nothing is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="kills of each kind that must count")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    # Stopped by either signal, also in the background of a shell, it takes the stack down with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)
    root = Path(tempfile.mkdtemp(prefix="chaos-"))
    root.chmod(0o711)
    outcome = asyncio.run(run(Plan(kills=options.kills, seed=options.seed), root, _tell))
    text = report.figures(outcome)
    print(text)
    for broken in outcome.broken:
        print(f"BROKEN: {broken}")
    if outcome.broken:
        print(f"Data and logs are kept in {root}")
        return 1
    report.write(text, _PAGE)
    shutil.rmtree(root, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

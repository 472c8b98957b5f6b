"""The long form: `python -m tests.chaos --kills 10 --tool-kills 200`; writes docs/reliability.md.

First everything is killed under conversations, then workers under tool calls, then everything
under tasks, pipelines, triggers and approvals, where processes also die at named places; 0 leaves
one out.
"""

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
from tests.chaos.tools import campaign as tool_campaign
from tests.chaos.tools import report as tool_report
from tests.chaos.work import campaign as work_campaign
from tests.chaos.work import report as work_report

_WORKFLOWS = 300
"""At least, in a run over all kinds of work."""
_PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)


def main() -> int:
    """Run, print, and write the page where nothing is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="kills of each kind that must count")
    parser.add_argument("--tool-kills", type=int, default=200, help="kills in mid-call of a tool")
    parser.add_argument("--work-kills", type=int, default=80, help="kills under tasks, in all")
    parser.add_argument("--failpoints", type=int, default=50, help="deaths at each named place")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    # Stopped by either signal, also in the background of a shell, it takes the stack down with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)
    is_sound = True
    if options.kills:
        is_sound = _conversations(options.kills, options.seed)
    if options.tool_kills:
        is_sound = _tools(options.tool_kills, options.seed) and is_sound
    if options.work_kills or options.failpoints:
        is_sound = _work(options.work_kills, options.failpoints, options.seed) and is_sound
    return 0 if is_sound else 1


def _conversations(kills: int, seed: int) -> bool:
    root = _root()
    outcome = asyncio.run(run(Plan(kills=kills, seed=seed), root, _tell))
    return _told(report.figures(outcome), outcome.broken, root, report.MARK)


def _tools(kills: int, seed: int) -> bool:
    root = _root()
    plan = tool_campaign.Plan(kills=kills, seed=seed)
    outcome = asyncio.run(tool_campaign.run(plan, root, _tell))
    return _told(tool_report.figures(outcome), outcome.broken, root, tool_report.MARK)


def _work(kills: int, failpoints: int, seed: int) -> bool:
    root = _root()
    plan = work_campaign.Plan(kills=kills, failpoints=failpoints, seed=seed, workflows=_WORKFLOWS)
    outcome = asyncio.run(work_campaign.run(plan, root, _tell))
    return _told(work_report.figures(outcome), outcome.broken, root, work_report.MARK)


def _root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="chaos-"))
    root.chmod(0o711)
    return root


def _told(text: str, broken: list[str], root: Path, mark: str) -> bool:
    """Print what happened, and put it into the page where nothing is broken."""
    print(text)
    for one in broken:
        print(f"BROKEN: {one}")
    if broken:
        print(f"Data and logs are kept in {root}")
        return False
    report.write(text, _PAGE, mark)
    shutil.rmtree(root, ignore_errors=True)
    return True


if __name__ == "__main__":
    sys.exit(main())

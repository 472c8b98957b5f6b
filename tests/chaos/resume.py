"""How soon a turn cut by kill -9 of the only worker goes on: `python -m tests.chaos.resume`."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.campaign import MODEL_SECONDS
from tests.chaos.load import Load
from tests.chaos.model import Model, running_model
from tests.chaos.product import Product, kill
from tests.waiting import until

_LIMIT_SECONDS = 5.0
_PATIENCE_SECONDS = 180.0


@dataclass(frozen=True)
class Resumed:
    """One cut turn. Seconds count from the moment the ready file was written again."""

    ready_after_kill: float
    called_after: float
    """Until the model was called again; negative: before the file was written."""
    committed_after: float
    """Until the reply was committed, the model's own time included."""
    calls: int


async def measure(root: Path, *, kills: int) -> list[Resumed]:
    """Kill the only worker in mid-call, again and again; return what became of each cut turn."""
    with running_model(root, delay=MODEL_SECONDS) as model:
        async with Product(root, model_url=model.base_url, workers=1) as product:
            load = Load(product, talks=1, dialogues=0, turns=5)
            resumed: list[Resumed] = []
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run())
                while len(resumed) < kills:
                    resumed += await _one(product, model)
                load.finish()
    return resumed


async def _one(product: Product, model: Model) -> list[Resumed]:
    """Kill once; empty where the call was over before the kill struck."""
    pids = product.pids()
    worker = pids["worker-1"]
    await until(lambda: model.in_flight([worker])[worker], timeout=_PATIENCE_SECONDS, what="a call")
    at = time.time()
    kill(worker)
    cut = await product.rows("SELECT id FROM model_calls WHERE status = 'reserved'")
    await product.up.has_replaced("worker-1", old=pids, timeout=_PATIENCE_SECONDS)
    ready = product.ready_file.stat().st_mtime
    if not cut:
        return []

    async def committed() -> list[Resumed]:
        rows = await product.rows(
            "SELECT extract(epoch FROM max(again.created_at))::float8 AS called,"
            " extract(epoch FROM max(again.ended_at))::float8 AS committed, count(*) AS calls"
            " FROM model_calls AS cut JOIN model_calls AS again USING"
            " (conversation_id, execution, turn, step)"
            " WHERE cut.id = ANY(%s)"
            " GROUP BY cut.id HAVING bool_or(again.status = 'committed')",
            [row["id"] for row in cut],
        )
        return [
            Resumed(ready - at, row["called"] - ready, row["committed"] - ready, row["calls"])
            for row in rows
        ]

    return await until(committed, timeout=_PATIENCE_SECONDS, what="the cut turn's reply")


def main() -> int:
    """Measure and print; 1 where a turn took too long or its call was made more than twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="resume-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        root.chmod(0o711)
        resumed = asyncio.run(measure(root, kills=options.kills))
    for one in resumed:
        print(
            f"worker ready {one.ready_after_kill:.1f} s after the kill; the model called again "
            f"after {one.called_after:.2f} s, the reply committed after {one.committed_after:.2f} s"
            f" (the model takes {MODEL_SECONDS:.0f} s); {one.calls} calls for the turn"
        )
    slowest = max(one.committed_after for one in resumed)
    median = statistics.median(one.committed_after for one in resumed)
    print(f"{len(resumed)} cut turns: median {median:.2f} s, worst {slowest:.2f} s")
    fine = slowest <= _LIMIT_SECONDS and all(one.calls <= 2 for one in resumed)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())

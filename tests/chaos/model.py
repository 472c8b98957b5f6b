"""The model of a chaos run: a process of its own that survives every kill, and what it saw."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from conclave.runtime.launch import bound_to_us

_ROOT = Path(__file__).parents[2]


@dataclass
class Model:
    """A running model server and its log, which nothing of the product writes to."""

    base_url: str
    log: Path
    received: int = 0
    sent: set[int] = field(default_factory=set)
    _ports: dict[int, int] = field(default_factory=dict)
    """Calls without an answer yet, by number: the caller's port."""
    _read_to: int = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.base_url.rsplit(":", 1)[1].split("/")[0])

    def look(self) -> None:
        """Read what the log has more."""
        with self.log.open("rb") as file:
            file.seek(self._read_to)
            fresh = file.read()
        whole = fresh.rfind(b"\n") + 1
        self._read_to += whole
        for text in fresh[:whole].splitlines():
            line = json.loads(text)
            if line["event"] == "received":
                self.received += 1
                self._ports[line["n"]] = line["peer"]
            else:
                self._ports.pop(line["n"], None)
            if line["event"] == "sent":
                self.sent.add(line["n"])

    def in_flight(self, workers: Sequence[int]) -> Counter[int]:
        """Return how many calls each worker process waits for at this moment.

        A dead worker's call is answered into the void later on: it is not counted, because no
        living process holds its connection.
        """
        self.look()
        waiting = Counter[int]()
        for pid in workers:
            with suppress(psutil.NoSuchProcess):
                for connection in psutil.Process(pid).net_connections("tcp4"):
                    if connection.raddr and connection.raddr.port == self.port:
                        waiting[pid] += connection.laddr.port in self._ports.values()
        return +waiting


@contextmanager
def running_model(
    directory: Path, *, delay: float, program: str = "tests.fakes.model_server"
) -> Generator[Model]:
    """Run the model server until the block ends; `delay` is in seconds."""
    log = directory / "model.jsonl"
    log.touch()
    command = [sys.executable, "-m", program]
    complaints = (directory / "model.err").open("wb")  # of callers that were killed
    process = subprocess.Popen(
        bound_to_us(
            [*command, "--delay", str(delay), "--log", str(log)], death_signal=signal.SIGKILL
        ),
        stdout=subprocess.PIPE,
        stderr=complaints,
        cwd=_ROOT,
        text=True,
    )
    try:
        assert process.stdout is not None
        with process.stdout as output:
            yield Model(base_url=output.readline().strip(), log=log)
    finally:
        process.kill()
        process.wait(5)
        complaints.close()

"""The ready file: says to scripts that the stack answers, where, and which processes it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from conclave.runtime.files import write_atomically
from conclave.runtime.plan import Ports


@dataclass
class ReadyFile:
    """JSON {api, temporal, ui, data_dir, pids}; there is none unless the stack is up."""

    path: Path
    ports: Ports
    data_dir: Path

    def write(self, pids: Mapping[str, int]) -> None:
        """Replace the file."""
        content = {
            "api": f"http://127.0.0.1:{self.ports.api}",
            "temporal": f"127.0.0.1:{self.ports.temporal}",
            "ui": f"http://127.0.0.1:{self.ports.ui}",
            "data_dir": str(self.data_dir),
            "pids": dict(pids),
        }
        write_atomically(self.path, json.dumps(content, indent=2) + "\n", mode=0o644)

    def remove(self) -> None:
        """Say that the stack is not up."""
        self.path.unlink(missing_ok=True)


def discard_if_dead(path: Path) -> None:
    """Remove the ready file of a supervisor that was killed: nobody else would."""
    try:
        supervisor = int(json.loads(path.read_text())["pids"]["supervisor"])
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        supervisor = 0
    if not psutil.pid_exists(supervisor) or supervisor == 0:
        path.unlink(missing_ok=True)

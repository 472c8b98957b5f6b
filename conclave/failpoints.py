"""Places where a process can be told to die, so that tests see what becomes of its work.

For tests only: the variable CONCLAVE_FAILPOINTS names a directory, and settings refuse it under
AUTH_MODE=required. Each file `<place>.<anything>` in it is a token that kills whichever process
reaches that place first, with SIGKILL; `struck.log` there tells of those that died.
"""

from __future__ import annotations

import json
import os
import signal
import time
from enum import StrEnum
from pathlib import Path

LOG = "struck.log"
"""One JSON object a line: place, pid, time (Unix) and context."""


class Failpoint(StrEnum):
    """The places."""

    BEFORE_PROVIDER_CALL = "before_provider_call"
    """The call is reserved, and nothing was sent."""
    BEFORE_COMMIT = "before_commit"
    """The model has answered, and nobody has stored it."""
    AFTER_COMMIT = "after_commit"
    """The reply is stored, and Temporal does not know."""
    BEFORE_START = "before_start"
    """A row is stored, and its workflow is not started."""
    IN_TOOL = "in_tool"
    """A tool has had its effect, and its outcome is not stored."""
    IN_WEBHOOK_DELIVERY = "in_webhook_delivery"
    """What came in is stored and not answered, or what goes out was sent and is not noted."""


_directory: Path | None = None


def arm(directory: Path | None) -> None:
    """Let this process die at places with tokens in a directory; None: never."""
    global _directory  # noqa: PLW0603  # one process, one answer: `reach` must cost nothing
    _directory = directory


def reach(place: Failpoint, *context: object) -> None:
    """Die here if there is a token of this place, which is taken by it; else go on.

    The context says in the log whose work was cut. Returns at once in a process that is not armed.
    """
    if _directory is not None:
        _die_for_a_token(_directory, place, context)


def _die_for_a_token(directory: Path, place: Failpoint, context: tuple[object, ...]) -> None:
    with os.scandir(directory) as entries:
        tokens = sorted(entry.path for entry in entries if entry.name.startswith(f"{place}."))
    for token in tokens:
        try:
            os.unlink(token)  # of many processes one succeeds
        except FileNotFoundError:
            continue
        _note(directory / LOG, place, context)
        os.kill(os.getpid(), signal.SIGKILL)


def _note(log: Path, place: Failpoint, context: tuple[object, ...]) -> None:
    """Write one line in one write, and have it on the disk before the process is gone."""
    line = {
        "place": place.value,
        "pid": os.getpid(),
        "time": time.time(),
        "context": " ".join(map(str, context)),
    }
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{json.dumps(line)}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

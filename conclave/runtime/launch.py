"""The command line that makes a process die with the one that starts it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from conclave.runtime import exec_child
from conclave.runtime.postgres import Account


def bound_to_us(
    command: Sequence[str], *, death_signal: signal.Signals, account: Account | None = None
) -> list[str]:
    """Wrap a command; it must be started from the main thread, whose end counts as ours.

    `command[0]` is an absolute path. `death_signal` is what it gets when we die without a word.
    """
    uid, gid = (account.uid, account.gid) if account else (-1, -1)
    head = [sys.executable, "-I", "-S", exec_child.__file__]
    return [*head, str(os.getpid()), str(int(death_signal)), str(uid), str(gid), *command]

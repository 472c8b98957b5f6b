"""Becomes a child of the supervisor: drops root, arranges to die with its parent, then execs.

Run as a script: `python -I -S exec_child.py PARENT_PID SIGNAL UID GID COMMAND...`, where a UID of
-1 keeps the user. The kernel forgets the parent-death signal when a process changes its user, so
the order here matters. It runs before anything is installed or imported: standard library only.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Turn into the command; never returns."""
    parent, signal_number, uid, gid = (int(text) for text in arguments[:4])
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        os.umask(0o077)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the signal was arranged
        sys.exit(1)
    os.execv(arguments[4], arguments[4:])


if __name__ == "__main__":
    main(sys.argv[1:])

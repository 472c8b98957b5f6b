"""Pauses of the garbage collector, in which a process sends nothing, heartbeats included."""

from __future__ import annotations

import gc


def leave_alone_what_is_loaded() -> None:
    """Take all that exists out of the collector's rounds: to be called once all is loaded.

    Modules and their objects stay for the life of the process. With litellm's among them a whole
    round took half a second.
    """
    gc.collect()
    gc.freeze()

"""Ports: whether they are free, who holds them, and others where that is allowed."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import fields

import psutil

from conclave.runtime.errors import PortTaken
from conclave.runtime.plan import Ports

_LOOPBACK = "127.0.0.1"
_FLAGS = {"api": "--api-port", "temporal": "--temporal-port", "ui": "--ui-port"}


def is_free(port: int) -> bool:
    """Whether this port can be listened on now; connections still closing do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
        return True


def holder(port: int) -> str | None:
    """Describe the process that listens on a port; None where it may not be seen."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            address = connection.laddr
            if connection.status == psutil.CONN_LISTEN and address and address.port == port:
                if connection.pid is None:
                    return None
                process = psutil.Process(connection.pid)
                return f"{process.name()} (process {connection.pid})"
    return None


def settle_ports(wanted: Ports, *, auto: bool) -> Ports:
    """Return the ports to use. Raises `PortTaken`; with `auto`, takes free ones instead.

    A wanted port of 0 is always replaced by a free one.
    """
    settled: dict[str, int] = {}
    with contextlib.ExitStack() as held:
        for name in (entry.name for entry in fields(wanted)):
            port: int = getattr(wanted, name)
            taken = port == 0 or port in settled.values() or not is_free(port)
            if taken and port != 0 and not auto:
                who = "another part of Conclave" if port in settled.values() else holder(port)
                raise PortTaken(
                    f"Port {port} is in use by {who or 'another process'}. "
                    f"Free it, choose another with {_FLAGS[name]}, or let --auto-ports choose."
                )
            settled[name] = _any_free(held) if taken else port
    return Ports(**settled)


def _any_free(held: contextlib.ExitStack) -> int:
    """Return a free port, kept bound until all are chosen so that no two are the same."""
    probe = held.enter_context(socket.socket())
    probe.bind((_LOOPBACK, 0))
    return int(probe.getsockname()[1])

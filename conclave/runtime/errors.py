"""What can go wrong while the embedded stack starts, and with commands on it."""

from __future__ import annotations

from conclave.errors import ConclaveError


class StartFailed(ConclaveError):
    """A part of the stack did not start; the message says which, why and where its log is."""

    code = "start_failed"


class PortTaken(StartFailed):
    """A port is in use; the message names the process that holds it."""

    code = "port_taken"


class DataDirInUse(StartFailed):
    """Another supervisor runs on this data directory."""

    code = "data_dir_in_use"


class KeysUnusable(ConclaveError):
    """`conclave keys` cannot find the keys, or what they seal."""

    code = "keys_unusable"

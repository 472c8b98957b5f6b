"""The files of a data directory: written whole or not at all, and read by their owner only."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from conclave.crypto import new_key
from conclave.runtime.plan import Layout

ENCRYPTION_KEY = "ENCRYPTION_KEY"
GATEWAY_TOKEN = "GATEWAY_TOKEN"
_MAKERS = {
    ENCRYPTION_KEY: new_key,
    GATEWAY_TOKEN: lambda: secrets.token_urlsafe(32),
    "JWT_SECRET": lambda: secrets.token_urlsafe(48),
}


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file; a reader sees the old text or the new, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def make_directories(layout: Layout) -> None:
    """Make the data directory; as root others may pass through it, for PostgreSQL's user."""
    layout.root.mkdir(parents=True, exist_ok=True)
    layout.root.chmod(0o711 if os.geteuid() == 0 else 0o700)
    for directory in (layout.temporal, layout.logs, layout.run):
        directory.mkdir(mode=0o700, exist_ok=True)
        directory.chmod(0o700)


def stored_secrets(layout: Layout) -> dict[str, str]:
    """Return the installation's secrets that there are."""
    return _read(layout.secrets) if layout.secrets.exists() else {}


def installation_secrets(layout: Layout) -> dict[str, str]:
    """Return the installation's secrets, making the ones that are missing."""
    found = stored_secrets(layout)
    missing = {name: make() for name, make in _MAKERS.items() if name not in found}
    if missing:
        found.update(missing)
        _write(layout.secrets, found)
    return found


def replace_secret(path: Path, name: str, value: str) -> None:
    """Set one of the installation's secrets, leaving the others alone."""
    _write(path, {**_read(path), name: value})


def _read(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, separator, value = line.partition("=")
        if separator and not name.startswith("#"):
            found[name.strip()] = value.strip()
    return found


def _write(path: Path, values: Mapping[str, str]) -> None:
    lines = ["# Without ENCRYPTION_KEY what is stored encrypted cannot be read again."]
    lines += [f"{name}={value}" for name, value in values.items()]
    write_atomically(path, "\n".join(lines) + "\n")

"""Every way to confine commands that this host has, as the service's user and as an ordinary one.

A service that runs as root is confined differently from one that does not, so where the tests run
as root they play both.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conclave.adapters.sandbox import plan, runner
from conclave.adapters.sandbox.host import HostSandbox
from schema.domain.sandbox import SandboxBackend
from tests.adapters.sandbox.shell import LIMITS, ROOT, SECRET, Shell

ORDINARY = 64999
"""A user that nobody is."""


def _as_ordinary(python: str) -> list[str]:
    return ["setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups", python]


def _ordinary_interpreter() -> list[str] | None:
    """Find a Python that an ordinary user can run the launcher with."""
    program = (
        f"import sys; sys.path.append({str(ROOT)!r}); import conclave.adapters.sandbox.launcher"
    )
    for python in (sys.executable, "/usr/local/bin/python3", "/usr/bin/python3"):
        command = [*_as_ordinary(python), "-I", "-S", "-B", "-c", program]
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            return _as_ordinary(python)
    return None


INTERPRETER = _ordinary_interpreter() if os.geteuid() == 0 else None
USERS = ["", " for an ordinary user"] if INTERPRETER is not None else [""]
WAYS = [backend + user for user in USERS for backend in ("bubblewrap", "namespaces")]


@pytest.fixture(scope="package")
def hidden() -> Iterator[Path]:
    """A data directory, with the workspaces of the tests inside, as in the product."""
    with tempfile.TemporaryDirectory(prefix="conclave-sandbox-test-") as name:
        directory = Path(name).resolve()
        (directory / "secrets.env").write_text(SECRET)
        yield directory


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest, hidden: Path) -> Iterator[str]:
    way: str = request.param
    with pytest.MonkeyPatch.context() as patch:
        if "ordinary" in way:
            assert INTERPRETER is not None
            command = INTERPRETER
            patch.setattr(runner, "interpreter", lambda: command)
            patch.setattr(plan.os, "geteuid", lambda: ORDINARY)
            os.chown(hidden, ORDINARY, ORDINARY)
        else:
            os.chown(hidden, os.geteuid(), os.getegid())
        yield way


@pytest.fixture
def workspace(way: str, hidden: Path) -> Path:
    path = Path(tempfile.mkdtemp(dir=hidden))
    if "ordinary" in way:
        os.chown(path, ORDINARY, ORDINARY)
    return path


@pytest.fixture(scope="module")
def sandbox(way: str, hidden: Path) -> HostSandbox:
    backend: SandboxBackend = "bubblewrap" if way.startswith("bubblewrap") else "namespaces"
    return HostSandbox(hidden=[hidden], limits=LIMITS, backends=[backend])


@pytest.fixture
def shell(sandbox: HostSandbox, workspace: Path) -> Shell:
    return Shell(sandbox, workspace)

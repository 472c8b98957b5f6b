"""Every way to confine commands, each of which must work where the tests run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conclave.adapters.sandbox.host import HostSandbox
from schema.domain.sandbox import SandboxBackend
from tests.adapters.sandbox.shell import LIMITS, SECRET, Shell


@pytest.fixture(scope="package")
def hidden() -> Iterator[Path]:
    """A data directory, with the workspaces of the tests inside, as in the product."""
    with tempfile.TemporaryDirectory(prefix="conclave-sandbox-test-") as name:
        directory = Path(name).resolve()
        (directory / "secrets.env").write_text(SECRET)
        yield directory


@pytest.fixture
def workspace(hidden: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=hidden))


@pytest.fixture(scope="module", params=["bubblewrap", "namespaces"])
def sandbox(request: pytest.FixtureRequest, hidden: Path) -> HostSandbox:
    backend: SandboxBackend = request.param
    return HostSandbox(hidden=[hidden], limits=LIMITS, backends=[backend])


@pytest.fixture
def shell(sandbox: HostSandbox, workspace: Path) -> Shell:
    return Shell(sandbox, workspace)

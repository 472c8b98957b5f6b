"""What `conclave up` is going to run: pure data and arithmetic, nothing is touched here."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import conclave
from conclave.loopback import is_loopback
from conclave.runtime.errors import StartFailed

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 5.0
RESTLESS_DEATHS = 10
RESTLESS_WINDOW_SECONDS = 60.0


@dataclass(frozen=True)
class Ports:
    """Where the stack listens, all on loopback; the same as long as the supervisor lives."""

    api: int = 8000
    temporal: int = 7233
    ui: int = 8233


@dataclass(frozen=True)
class UpOptions:
    """What the caller of `conclave up` asked for."""

    data_dir: Path
    ports: Ports = field(default_factory=Ports)
    auto_ports: bool = False
    workers: int = 1
    ready_file: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    verbose: bool = False


@dataclass(frozen=True)
class Layout:
    """Where things lie under the data directory."""

    root: Path

    @property
    def postgres(self) -> Path:
        """The embedded PostgreSQL's home."""
        return self.root / "postgres"

    @property
    def temporal(self) -> Path:
        """The dev server's directory."""
        return self.root / "temporal"

    @property
    def temporal_database(self) -> Path:
        """The dev server's file."""
        return self.temporal / "temporal.db"

    @property
    def logs(self) -> Path:
        """One file a child."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """What is only true while the stack runs."""
        return self.root / "run"

    @property
    def lock(self) -> Path:
        """Held by the supervisor; names its process."""
        return self.run / "supervisor.lock"

    @property
    def children(self) -> Path:
        """The processes started, so that the next start can wait for them to be gone."""
        return self.run / "children.json"

    @property
    def secrets(self) -> Path:
        """The keys made for this installation."""
        return self.root / "secrets.env"

    def log(self, child: str) -> Path:
        """Return a child's log."""
        return self.logs / f"{child}.log"

    def worker_ready(self, child: str) -> Path:
        """Return the file a worker writes its pid to once it polls."""
        return self.run / f"{child}.ready"


def own_command(*arguments: str) -> list[str]:
    """Return the command line of another `conclave` command.

    `-P` keeps the working directory off the import path: it may hold a `schema` of its own.
    """
    return [sys.executable, "-P", "-m", "conclave.cli", *arguments]


def worker_names(count: int) -> list[str]:
    """Return the workers' names: worker-1, worker-2, ..."""
    return [f"worker-{number}" for number in range(1, count + 1)]


def child_environment(
    inherited: Mapping[str, str],
    options: UpOptions,
    ports: Ports,
    *,
    database_url: str,
    secrets: Mapping[str, str],
) -> dict[str, str]:
    """Return what the API and the workers see.

    `--env` wins over everything, the stack's own addresses over what was inherited, and what was
    inherited over the secrets. Raises `StartFailed` where that must not run.
    """
    environment = {**secrets, **inherited}
    root = str(Path(conclave.__path__[0]).parent)
    search = [root, *filter(None, [inherited.get("PYTHONPATH")])]
    environment.update(
        API_PORT=str(ports.api),
        CONCLAVE_DATA_DIR=str(options.data_dir),
        DATABASE_URL=database_url,
        PYTHONPATH=os.pathsep.join(search),
        PYTHONUNBUFFERED="1",
        TEMPORAL_ADDRESS=f"127.0.0.1:{ports.temporal}",
        TEMPORAL_NAMESPACE="default",
        TEMPORAL_UI_URL=f"http://127.0.0.1:{ports.ui}",
    )
    environment.update(options.environment)
    given_by_hand = "ENCRYPTION_KEY" in {*inherited, *options.environment}
    if "ENCRYPTION_KEY" in secrets and not given_by_hand:
        # So that they learn the keys that `conclave keys rotate` puts there while they run.
        environment["CONCLAVE_SECRETS_FILE"] = str(Layout(options.data_dir).secrets)
    host = environment.get("API_HOST", "127.0.0.1")
    environment.setdefault("AUTH_MODE", "local" if is_loopback(host) else "required")
    if environment.get("CONCLAVE_FAILPOINTS") and environment["AUTH_MODE"] != "local":
        raise StartFailed(
            "CONCLAVE_FAILPOINTS kills processes, for tests: it is refused under AUTH_MODE=required"
        )
    return environment


def parse_assignments(texts: Sequence[str]) -> dict[str, str]:
    """Read `KEY=VALUE` texts. Raises `StartFailed`."""
    found: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key.isidentifier():
            raise StartFailed(f"--env wants KEY=VALUE, not {text.split('=')[0]!r}")
        found[key] = value
    return found


def restart_delay(early_deaths: int, deaths_in_window: int) -> float:
    """Return how many seconds to wait before a child is started again.

    `early_deaths` counts those in a row before it was ready; `deaths_in_window` all of them in
    the last `RESTLESS_WINDOW_SECONDS`.
    """
    if deaths_in_window >= RESTLESS_DEATHS:
        return LONGEST_DELAY_SECONDS
    return min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(early_deaths, 10))

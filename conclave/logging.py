"""Structured logs: one line an event, with the ids of whatever is being done on every line."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Mapping
from typing import cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from conclave.settings import LogFormat

_SECRET_NAMES = re.compile(
    r"(api_?key|private_?key|authorization|cookie|credentials?|passw(or)?d|secret|token)$",
    re.IGNORECASE,
)
_SECRET_SHAPES = re.compile(
    r"(\bsk-[A-Za-z0-9_\-]{4})[A-Za-z0-9_\-]{8,}"
    r"|((?:Bearer|Basic) )\S{8,}"
    r"|(eyJ)[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]*)?"  # a JWT
    r"|(\bconclave_)[A-Za-z0-9_\-]{40,}"  # an API key of ours
    r"|(\bwhsec_)[A-Za-z0-9+/=_\-]{8,}"  # a signing secret of Standard Webhooks
    r"|([?&](?:\w*token|\w*secret|\w*key|password|sig|signature)=)[^&\s\"'<>]+"
    r"|(\b(?:api_?key|passw(?:or)?d|secret|\w*token)[\"']?\s?[=:]\s?[\"'])[^\"']{4,}"  # in a repr
    r"|(\bpassword=)[^\s&\"']+"  # in a libpq connection string
    r"|(\b[a-z][a-z0-9+.\-]*://[^\s/:@]*:)[^\s/@]+(?=@)",  # a password in a URL
    re.IGNORECASE,
)
_DEEPEST = 8
_QUIET = ("httpx", "httpcore", "LiteLLM", "openai", "aiohttp", "asyncio", "urllib3")


def mask_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Blank values whose name says secret, and what looks like a key inside texts.

    Looks into mappings and lists, and into the texts of exceptions.
    """
    for name, value in event.items():
        event[name] = _masked(name, value, _DEEPEST)
    return event


def _is_no_wire_dump(record: logging.LogRecord) -> bool:
    """Whether it is not uvicorn's account of every header and frame: tokens stand in those."""
    return record.levelno > logging.DEBUG


def _masked(name: object, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(name, str) and _SECRET_NAMES.search(name):
        return "***"
    if isinstance(value, str):
        return _without_secrets(value)
    if isinstance(value, bytes | BaseException):
        return _without_secrets(repr(value))
    if depth == 0:
        return "..."
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {key: _masked(key, one, depth - 1) for key, one in items}
    if isinstance(value, list | tuple | set | frozenset):
        found = cast("Iterable[object]", value)
        return [_masked(None, one, depth - 1) for one in found]
    return value


def _without_secrets(text: str) -> str:
    """Keep how a secret begins, where that says what it is."""
    return _SECRET_SHAPES.sub(lambda found: "".join(filter(None, found.groups())) + "***", text)


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

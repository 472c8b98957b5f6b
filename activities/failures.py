"""The core's errors as Temporal's: typed by their code, retried only where that can help."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from conclave.errors import BudgetExhausted, CircuitOpen, ConclaveError, ProviderUnavailable
from conclave.logging import get_logger

_UNEXPECTED_TRIES = 8
_LONGEST_CIRCUIT_WAIT = 300.0
"""Seconds. An administrator may close a circuit long before it would be tried again."""
_SPREAD = 1.5
_log = get_logger(__name__)


@contextmanager
def translated() -> Generator[None]:
    """Raise ConclaveErrors as ApplicationErrors whose message is public.

    Causes are cut off: their texts may quote prompts or keys, and failures stand in histories.
    The next try waits as long as the provider asked for, where it did, and for a circuit until it
    may let a call through: all that wait for one do not come at once.
    """
    try:
        yield
    except ConclaveError as error:
        delay = error.retry_after if isinstance(error, ProviderUnavailable | CircuitOpen) else None
        if delay is not None and isinstance(error, CircuitOpen) and error.retryable:
            delay = min(delay, _LONGEST_CIRCUIT_WAIT) * random.uniform(1.0, _SPREAD)
        raise ApplicationError(
            error.message,
            # Figures alone: which budget, and what was missing.
            *([error.details] if isinstance(error, BudgetExhausted) else []),
            type=error.code,
            non_retryable=not error.retryable,
            next_retry_delay=None if delay is None else timedelta(seconds=delay),
            # Waiting for a circuit is no failure of this worker: it is not logged as one.
            category=ApplicationErrorCategory.BENIGN
            if isinstance(error, CircuitOpen)
            else ApplicationErrorCategory.UNSPECIFIED,
        ) from None
    except Exception:
        # A defect of ours: its text may hold anything, so it is logged and not passed on.
        _log.exception("activity failed unexpectedly")
        raise ApplicationError(
            "Internal error",
            type="internal_error",
            non_retryable=activity.info().attempt >= _UNEXPECTED_TRIES,
        ) from None

"""The core's errors as Temporal's: typed by their code, retried only where that can help."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

from temporalio.exceptions import ApplicationError

from conclave.errors import ConclaveError, ProviderUnavailable


@contextmanager
def translated() -> Generator[None]:
    """Raise ConclaveErrors as ApplicationErrors whose message is public.

    The next try waits as long as the provider asked for, where it did.
    """
    try:
        yield
    except ConclaveError as error:
        delay = error.retry_after if isinstance(error, ProviderUnavailable) else None
        raise ApplicationError(
            error.message,
            type=error.code,
            non_retryable=not error.retryable,
            next_retry_delay=None if delay is None else timedelta(seconds=delay),
        ) from error

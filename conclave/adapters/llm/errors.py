"""Reads what litellm raises: its exceptions subclass openai's and carry `status_code`.

Nothing here looks at message texts to decide anything; they are only shown, cut and masked.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import cast

from conclave.crypto import blank_out
from conclave.errors import (
    CredentialsRefused,
    ProviderError,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
)

REASON_LIMIT = 300
RETRY_AFTER_LIMIT = 3600.0
_TIMEOUT_STATUSES = frozenset({408, 504})
_CREDENTIALS_STATUSES = frozenset({401, 403})
_TRY_AGAIN_STATUSES = frozenset({409, 425, 429})
_CLASS_NAMES = re.compile(r"^(?:[\w.]*(?:Error|Exception|Timeout)\s*[:-]\s*)+")
_KEY_SHAPES = re.compile(
    r"(?:sk|pk|rk|xai|gsk)-[\w\-]{6,}|AIza[\w\-]{10,}|(?<=Bearer )\S{6,}|(?<=[?&]key=)[^&\s\"']+"
)


def translate(error: Exception, label: str, secrets: Sequence[str]) -> ProviderError:
    """Return the error of ours that says what happened. `label` names the provider."""
    status = _status(error)
    reason = public_reason(str(getattr(error, "message", "") or error), secrets) or (
        "it gave no reason" if status is None else f"status {status}, without a reason"
    )
    if isinstance(error, TimeoutError) or status in _TIMEOUT_STATUSES:
        return ProviderTimeout(f"{label} did not answer in time.", retry_after(error))
    if status in _TRY_AGAIN_STATUSES:
        busy = "limits the rate of calls" if status == 429 else "cannot take the call just now"
        return ProviderUnavailable(f"{label} {busy}: {reason}", retry_after(error), status=status)
    if status is not None and 400 <= status < 500:
        refusal = CredentialsRefused if status in _CREDENTIALS_STATUSES else ProviderRefused
        return refusal(f"{label} refused the call: {reason}", status=status)
    return ProviderUnavailable(f"{label} failed: {reason}", retry_after(error), status=status)


def public_reason(text: str, secrets: Sequence[str]) -> str:
    """Return a provider's own words on one line: no class names, no keys, at most 300 letters."""
    text = blank_out(text, secrets)
    text = _KEY_SHAPES.sub("***", " ".join(text.split()))
    text = _CLASS_NAMES.sub("", text)
    return text if len(text) <= REASON_LIMIT else text[: REASON_LIMIT - 1] + "…"


def retry_after(error: Exception) -> float | None:
    """Return the seconds the provider asks to wait: from milliseconds, seconds or an HTTP date."""
    headers = _headers(error)
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return _bounded(milliseconds / 1000)
    value = headers.get("retry-after")
    if value is None:
        return None
    if (seconds := _number(value)) is not None:
        return _bounded(seconds)
    try:
        return _bounded(parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), RETRY_AFTER_LIMIT)


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _status(error: Exception) -> int | None:
    status: object = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def _headers(error: Exception) -> dict[str, str]:
    """Collect headers: on the response, or where litellm keeps the original ones."""
    found: dict[str, str] = {}
    response: object = getattr(error, "response", None)
    for source in (
        getattr(response, "headers", None),
        getattr(error, "litellm_response_headers", None),
    ):
        if isinstance(source, Mapping):
            items = cast("Mapping[object, object]", source).items()
            found |= {str(name).lower(): str(value) for name, value in items}
    return found

"""Signatures of webhooks: Standard Webhooks 1.0 both ways, and GitHub's way for what comes in."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping

from conclave.triggers.errors import SignatureRefused

TOLERANCE_SECONDS = 300
_PREFIX = "whsec_"
_MOST_SIGNATURES = 10


def new_secret() -> str:
    """Return a fresh secret."""
    return _PREFIX + base64.b64encode(os.urandom(32)).decode()


def key_of(secret: str) -> bytes:
    """Return the bytes of a secret: `whsec_` is decoded, any other is what it says."""
    if secret.startswith(_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of `webhook-signature`."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(_mac(secret, signed)).decode()


def is_signed(headers: Mapping[str, str]) -> bool:
    """Whether a request shows a signature, good or bad. Header names are in small letters."""
    return "webhook-signature" in headers or "x-hub-signature-256" in headers


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> None:
    """Raise `SignatureRefused` unless the raw body is signed with the secret, and lately."""
    if "webhook-signature" in headers:
        _verify_standard(secret, headers, body, now)
    elif "x-hub-signature-256" in headers:
        wanted = "sha256=" + _mac(secret, body).hex()
        if not _same(wanted, headers["x-hub-signature-256"].strip().lower()):
            raise SignatureRefused("The signature does not fit")
    else:
        raise SignatureRefused("The request is not signed")


def _verify_standard(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> None:
    message_id, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or not sent.isascii() or not sent.isdecimal() or len(sent) > 12:
        raise SignatureRefused("webhook-id and webhook-timestamp are needed with a signature")
    if abs(now - int(sent)) > TOLERANCE_SECONDS:
        raise SignatureRefused("webhook-timestamp is more than five minutes off")
    wanted = sign(secret, message_id, int(sent), body)
    shown = headers["webhook-signature"].split()[:_MOST_SIGNATURES]
    if not any([_same(wanted, one) for one in shown]):  # each is compared, whichever fits
        raise SignatureRefused("The signature does not fit")


def _mac(secret: str, data: bytes) -> bytes:
    return hmac.new(key_of(secret), data, hashlib.sha256).digest()


def _same(wanted: str, shown: str) -> bool:
    return hmac.compare_digest(wanted.encode(), shown.encode("utf-8", "replace"))

"""Codes of the second factor: time-based ones, and backup codes. Nothing is stored here."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime

import segno
from pyotp import random_base32
from pyotp.totp import TOTP

from conclave.identity.shapes import MfaSetup

BACKUP_CODES = 10
_STEP_SECONDS = 30
_WINDOW = 1
"""Time steps before and after the present one whose codes are taken."""
_TOTP = re.compile(r"[0-9]{6}")
_BACKUP_BYTES = 10
_GROUP = 4


def new_secret() -> str:
    """Return a fresh TOTP secret, base32."""
    return random_base32()


def setup_of(secret: str, email: str) -> MfaSetup:
    """Return what an authenticator application needs to know."""
    url = TOTP(secret).provisioning_uri(name=email, issuer_name="Conclave")
    image = segno.make(url, error="m", micro=False).svg_data_uri(scale=4)
    return MfaSetup(secret=secret, otpauth_url=url, qr_code=image)


def is_totp(code: str) -> bool:
    """Whether a code is of the time-based kind; else it can be a backup code only."""
    return _TOTP.fullmatch(code) is not None


def step_of(secret: str, code: str, now: datetime, *, after: int | None) -> int | None:
    """Return the time step a code belongs to, None where it does not fit.

    `after` is the last step used: neither its code nor an older one fits again.
    """
    totp = TOTP(secret)
    present = int(now.timestamp()) // _STEP_SECONDS
    found = None
    for step in range(present - _WINDOW, present + _WINDOW + 1):
        fits = hmac.compare_digest(totp.generate_otp(step), code)
        if fits and (after is None or step > after):
            found = step
    return found


def new_backup_codes() -> Sequence[str]:
    """Return codes of 80 random bits each, in groups that can be typed."""
    return [_grouped(secrets.token_bytes(_BACKUP_BYTES)) for _ in range(BACKUP_CODES)]


def backup_hash(user_id: int, code: str) -> str:
    """Return what is stored of a backup code; blanks, dashes and case do not matter.

    A fast hash is right: the codes are random and too long to be guessed.
    """
    plain = re.sub(r"[\s-]", "", code).upper()
    return hashlib.sha256(f"conclave backup code {user_id} {plain}".encode()).hexdigest()


def _grouped(code: bytes) -> str:
    text = base64.b32encode(code).decode()
    return "-".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))

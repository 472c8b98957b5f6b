"""What identity keeps sealed: the secrets of second factors."""

from __future__ import annotations

from conclave.resealing import SealedColumn
from schema.tables.identity import UserRow


def mfa_context(user_id: int | str) -> str:
    """Return what a user's sealed TOTP secret is bound to."""
    return f"users/{user_id}/mfa"


SEALED_PLACES = (
    SealedColumn(UserRow, UserRow.id, UserRow.mfa_secret, mfa_context),
    SealedColumn(UserRow, UserRow.id, UserRow.mfa_pending_secret, mfa_context),
)

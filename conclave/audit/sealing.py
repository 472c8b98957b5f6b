"""What a seal is, bit for bit: `docs/audit.md` tells outsiders the same. No database here.

A seal hashes lines of UTF-8, each ended by a line feed: a head, then its entries in order. Every
line is a JSON array without spaces in which only `"`, `\\` and control characters are escaped.
Times are UTC with six digits of a second and `Z`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from conclave.crypto import Keyring
from schema.domain.audit import AuditSeal, SealableEntry

FORMAT = "conclave audit 1"
BEFORE_THE_FIRST = "0" * 64
"""What the first seal names as the hash before it."""
MAC_USE = b"conclave audit seal"
"""The info of HKDF: the key of the MACs is derived for this use alone."""


def head_line(seal: AuditSeal) -> bytes:
    """Return the line of the seal itself."""
    return _line([FORMAT, seal.id, seal.previous_hash, _time(seal.sealed_at), seal.key_id])


def entry_line(entry: SealableEntry) -> bytes:
    """Return the line of an entry, every column in it."""
    return _line(
        [
            entry.id,
            entry.action,
            entry.resource_type,
            entry.resource_id,
            entry.actor_type,
            entry.actor_id,
            entry.details,
            entry.changes,
            entry.ip_address,
            entry.request_id,
            _time(entry.created_at),
        ]
    )


def hash_of(seal: AuditSeal, entries: Sequence[SealableEntry]) -> str:
    """Return the seal's SHA-256 in hex; `seal.hash` and `seal.mac` do not count."""
    digest = hashlib.sha256(head_line(seal))
    for entry in entries:
        digest.update(entry_line(entry))
    return digest.hexdigest()


def mac_of(seal_hash: str, key_id: str, keys: Keyring) -> str | None:
    """Return the HMAC-SHA-256 over the hash in hex; None where that key is not at hand."""
    try:
        key = keys.derive(bytes.fromhex(key_id), MAC_USE)
    except ValueError:
        return None
    return None if key is None else hmac.digest(key, seal_hash.encode(), "sha256").hex()


def make_seal(
    previous: AuditSeal | None,
    entries: Sequence[SealableEntry],
    now: datetime,
    keys: Keyring | None,
) -> AuditSeal:
    """Return the seal that follows `previous` and covers these entries."""
    draft = AuditSeal(
        id=1 if previous is None else previous.id + 1,
        entry_ids=[entry.id for entry in entries],
        previous_hash=BEFORE_THE_FIRST if previous is None else previous.hash,
        hash="",
        key_id=None if keys is None else keys.writing_key_id.hex(),
        mac=None,
        sealed_at=now,
    )
    digest = hash_of(draft, entries)
    mac = None if keys is None or draft.key_id is None else mac_of(digest, draft.key_id, keys)
    return draft.model_copy(update={"hash": digest, "mac": mac})


def _line(values: list[str | int | None]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

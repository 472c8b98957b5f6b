"""Slugs: the unique short names of agents."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from itertools import count

MAX_LENGTH = 63
SLUG_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"
_OTHER = re.compile(r"[^a-z0-9]+")


def slug_of(name: str) -> str:
    """Derive a slug from a name, whatever its script: accents are dropped, the rest is `_`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = _OTHER.sub("_", plain).strip("_")
    if not slug[:1].isalpha():
        slug = f"agent_{slug}".rstrip("_")
    return slug[:MAX_LENGTH].rstrip("_")


def first_free(base: str, taken: Collection[str]) -> str:
    """Return `base`, or `base_2`, `base_3` and so on: the first that is not taken."""
    if base not in taken:
        return base
    for number in count(2):
        suffix = f"_{number}"
        candidate = base[: MAX_LENGTH - len(suffix)] + suffix
        if candidate not in taken:
            return candidate
    raise AssertionError("counting does not end")

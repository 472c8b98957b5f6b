"""Looking for a secret where it must not be: in the clear or in the usual disguises."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote


def disguises(value: str) -> list[bytes]:
    """Return what a value looks like as it is, in base64 (at any offset), hex and URLs.

    A value with a long run of letters and digits is found by that too, however the rest is
    escaped.
    """
    raw = value.encode()
    found = {raw, quote(value, safe="").encode(), max(re.findall(rb"[A-Za-z0-9]+", raw), key=len)}
    for part in list(found):
        found |= {part.hex().encode(), part.hex().upper().encode()}
        for alphabet in (base64.b64encode, base64.urlsafe_b64encode):
            for before in range(3):
                text = alphabet(b"\0" * before + part)
                # Letters that hold bits of what is before or behind differ from place to place.
                found.add(text[(before * 8 + 5) // 6 : len((b"x" * before) + part) * 8 // 6])
    return sorted(found)


@dataclass(frozen=True)
class Leak:
    """Where a value was found."""

    place: str
    disguise: bytes

    def __str__(self) -> str:
        return f"{self.place}: {self.disguise[:80]!r}"


def leaks(places: Iterator[tuple[str, bytes]], values: list[str]) -> list[Leak]:
    """Return every value found in (name, content) pairs."""
    looked_for = [disguise for value in values for disguise in disguises(value)]
    return [
        Leak(name, disguise)
        for name, content in places
        for disguise in looked_for
        if disguise in content
    ]


def files_below(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every regular file with its content."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield str(path.relative_to(root)), path.read_bytes()

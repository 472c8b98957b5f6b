"""The passwords everybody uses, from zxcvbn's list of the 30,000 most frequent ones."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

_MIN_CORE = 4
"""A shorter common word says nothing about the rest of a password."""
_LEET = str.maketrans({"0": "o", "1": "l", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a"})
_LEET_AGAIN = str.maketrans({"1": "i", "$": "s", "!": "i", "|": "l", "+": "t", "8": "b", "9": "g"})
_EDGES = "0123456789!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ "


class CommonPasswords:
    """Knows whether a password is a frequent one in disguise. Reads the list at first use."""

    def __init__(self) -> None:
        self._known: frozenset[str] | None = None
        self._loading = asyncio.Lock()

    async def contains(self, password: str) -> bool:
        """Whether it is common as it stands, in other case, with decorated ends or in leet."""
        if self._known is None:
            async with self._loading:
                if self._known is None:
                    self._known = await asyncio.to_thread(_load)
        return not self._known.isdisjoint(_disguises(password))


def _disguises(password: str) -> set[str]:
    """Return what the password may stand for, itself included."""
    found = {password.casefold()}
    for undo in (_LEET, _LEET_AGAIN):
        found |= {text.translate(undo) for text in found | {text.strip(_EDGES) for text in found}}
        found |= {text.strip(_EDGES) for text in found}
    return {password.casefold()} | {text for text in found if len(text) >= _MIN_CORE}


def _load() -> frozenset[str]:
    """Read the one list out of its file: importing zxcvbn would keep all of them in memory."""
    package = importlib.util.find_spec("zxcvbn")
    assert package is not None
    assert package.origin is not None
    source = Path(package.origin).with_name("frequency_lists.py")
    spec = importlib.util.spec_from_file_location("_zxcvbn_frequency_lists", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return frozenset(module.FREQUENCY_LISTS["passwords"])

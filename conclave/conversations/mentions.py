"""Who a text calls upon."""

from __future__ import annotations

import re
from collections.abc import Mapping

END_MARKERS = ("[DONE]", "[COMPLETE]", "[FIN]", "[TERMINÉ]")


def mentions(text: str, names: Mapping[int, str]) -> list[int]:
    """Return the agents called by @name, in the order of the text, each once.

    Names may hold spaces; the longest that fits wins, case does not count.
    """
    return _in_order(text, names, prefix="@")


def named(text: str, names: Mapping[int, str]) -> list[int]:
    """Return the agents named as whole words, with or without an @, in order, each once."""
    return _in_order(text, names, prefix="@?")


def _in_order(text: str, names: Mapping[int, str], *, prefix: str) -> list[int]:
    if not names:
        return []
    by_name = {_spelling(name): agent_id for agent_id, name in reversed(list(names.items()))}
    spellings = sorted({re.escape(name) for name in by_name} - {""}, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w){prefix}({'|'.join(spellings)})(?!\w)")
    found = (by_name[match.group(1)] for match in pattern.finditer(text.casefold()))
    return list(dict.fromkeys(found))


def _spelling(name: str) -> str:
    return name.casefold()


def has_end_marker(text: str) -> bool:
    """Whether a reply says that all is said."""
    return any(marker in text for marker in END_MARKERS)

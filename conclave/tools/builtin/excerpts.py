"""Keeping answers short, and saying how to get the rest."""

from __future__ import annotations

MOST_CHARACTERS = 40_000
"""Of an answer, under the ledger's own limit, which cuts without knowing what it cuts."""


def start_of(text: str, rest: str, most: int = MOST_CHARACTERS) -> str:
    """Return the start of a text; `rest` says how to get what is left out."""
    if len(text) <= most:
        return text
    return f"{text[:most]}\n[cut after {most} of {len(text)} characters. {rest}]"


def both_ends(text: str, most: int) -> str:
    """Return start and end of a text: the end of an output says how it went."""
    if len(text) <= most:
        return text
    half = most // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n[... {left_out} characters left out ...]\n{text[-half:]}"

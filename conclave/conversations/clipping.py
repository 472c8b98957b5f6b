"""Cutting what is too long for a window out of a prompt, with a note where something is missing."""

from __future__ import annotations

import json

from schema.domain.base import Shape

_CHARACTERS_PER_TOKEN = 2
"""Few, so that text which is dense in tokens fits as well."""


class Caps(Shape):
    """The most characters of one tool's answer (or arguments) and of one message; None: all."""

    tool: int | None = None
    text: int | None = None

    @staticmethod
    def of(window: int, *, tool: int, text: int | None = None) -> Caps:
        """Return the caps that are these fractions (4: a quarter) of a window of tokens."""
        whole = window * _CHARACTERS_PER_TOKEN
        return Caps(tool=whole // tool, text=None if text is None else whole // text)


def clipped(text: str, most: int | None) -> str:
    """Return a text of about `most` characters: its beginning, a note and its end."""
    if most is None or len(text) <= most:
        return text
    head, tail = most * 2 // 3, most // 3
    note = f"[… {len(text) - head - tail} characters are left out here: they do not fit …]"
    return f"{text[:head]}\n{note}\n{text[len(text) - tail :]}"


def clipped_arguments(arguments: str, most: int | None) -> str:
    """Return a call's arguments, or JSON that says how long they were."""
    if most is None or len(arguments) <= most:
        return arguments
    return json.dumps({"left_out": f"{len(arguments)} characters of arguments, which do not fit"})

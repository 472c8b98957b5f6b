"""Making text of others safe to print: it may hold whatever moves a cursor or hides what it says.

What is spoken is cleaned (`clean`): sequences vanish. What somebody is to approve is shown as it
is (`shown_as_json`, `revealed`): what cannot be seen is spelled out.
"""

from __future__ import annotations

import json
import re
import unicodedata

from pydantic import JsonValue

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, modes
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])"  # OSC, DCS and the like, with an end
    r"[^\x07\x1b\x90\x98\x9c-\x9f]{0,4096}(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"  # the two-character ones
)
_JOINERS = frozenset("\u200c\u200d")
"""Format characters that words and pictures are made with."""
_LINE_BREAKS = re.compile(r"\r\n|[\x85\u2028\u2029]")
_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def clean(text: str) -> str:
    """Return the text without escape sequences, control and invisible characters."""
    if text.isascii() and text.isprintable():
        return text
    text = _SEQUENCE.sub("", _LINE_BREAKS.sub("\n", text))
    return "".join(char for char in text if char in "\n\t" or not _is_unseen(char))


def one_line(text: str, most: int) -> str:
    """Return cleaned text as one line of at most so many characters."""
    flat = " ".join(clean(text[: most * 8]).split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"


def revealed(text: str) -> str:
    """Return the text with everything unseen but line breaks spelled as \\uXXXX."""
    return "".join(
        char if char == "\n" or not _is_unseen(char) else _spelled(char) for char in text
    )


def shown_as_json(value: JsonValue) -> str:
    """Return a value as JSON that reads back as the same, without any unseen character."""
    return revealed(json.dumps(value, ensure_ascii=False, indent=2))


def _is_unseen(char: str) -> bool:
    return char not in _JOINERS and unicodedata.category(char) in _UNSEEN_CATEGORIES


def _spelled(char: str) -> str:
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"

"""Exact replacement in a text, made so that making it twice is making it once."""

from __future__ import annotations

from bisect import bisect_right

from schema.domain.base import Shape


class EditRefused(ValueError):
    """It cannot be made; the message tells the model what to do instead."""


class Edited(Shape):
    """The text afterwards. `count` 0: it stood there already."""

    text: str
    count: int


def replace(text: str, old: str, new: str, *, every: bool) -> Edited:
    """Replace the one place of `old`, or each; places that are part of `new` already are done.

    Raises `EditRefused` where there is no such place, more than one, or where a second time
    would change the text again.
    """
    if not old:
        raise EditRefused("old_string is empty. Use write_file to make a file.")
    if old == new:
        raise EditRefused("old_string and new_string are the same: nothing to do.")
    if "\r\n" in text and "\r" not in old and "\r" not in new:
        old, new = old.replace("\n", "\r\n"), new.replace("\n", "\r\n")
    edited = _once(text, old, new, every=every)
    if edited.count and not _is_settled(edited.text, old, new, every=every):
        raise EditRefused(
            "After this edit old_string would be found again where it meets its surroundings. "
            "Take more of the lines around it into old_string and new_string."
        )
    return edited


def _once(text: str, old: str, new: str, *, every: bool) -> Edited:
    places = _places(text, old, new)
    if not places:
        if new and new in text:
            return Edited(text=text, count=0)
        raise EditRefused(
            "old_string is not in the file. Read the file again and copy the text exactly, with "
            "its indentation and without line numbers."
        )
    if len(places) > 1 and not every:
        lines = ", ".join(str(text.count("\n", 0, place) + 1) for place in places[:10])
        raise EditRefused(
            f"old_string is in the file {len(places)} times (lines {lines}). Take more of the "
            "lines around it, or set replace_all."
        )
    pieces: list[str] = []
    end = 0
    for place in places:
        pieces += [text[end:place], new]
        end = place + len(old)
    return Edited(text="".join([*pieces, text[end:]]), count=len(places))


def _is_settled(text: str, old: str, new: str, *, every: bool) -> bool:
    """Whether the same edit would leave the text as it is now."""
    try:
        return _once(text, old, new, every=every).count == 0
    except EditRefused:
        return True


def _places(text: str, old: str, new: str) -> list[int]:
    """Return where `old` stands and is not part of a `new`, from left to right."""
    covered = _all(text, new) if old in new else []
    found: list[int] = []
    at = text.find(old)
    while at >= 0:
        if _is_covered(at, len(old), covered, len(new)):
            at = text.find(old, at + 1)
        else:
            found.append(at)
            at = text.find(old, at + len(old))
    return found


def _all(text: str, part: str) -> list[int]:
    found: list[int] = []
    at = text.find(part)
    while at >= 0:
        found.append(at)
        at = text.find(part, at + 1)
    return found


def _is_covered(at: int, length: int, covered: list[int], size: int) -> bool:
    """Whether one of the places in `covered`, each `size` long, holds the `length` from `at`."""
    before = bisect_right(covered, at) - 1
    return before >= 0 and at + length <= covered[before] + size

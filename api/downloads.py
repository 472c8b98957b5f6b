"""Answers that are files: one range at most (RFC 9110, section 14), always as an attachment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from api.errors import RangeUnsatisfiable

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)
_PLAIN = re.compile(r"[^A-Za-z0-9 ._()+-]")


@dataclass(frozen=True)
class Piece:
    """What of a file is answered: from `start` up to but without `stop`."""

    start: int
    stop: int
    is_part: bool


def asked_piece(headers: Mapping[str, str], size: int, etag: str) -> Piece:
    """Return what a request asks for. Raises `RangeUnsatisfiable`.

    Several ranges, or what cannot be read, are answered with the whole, as the standard allows;
    so is a range of something else than what is there (`If-Range`).
    """
    whole = Piece(0, size, is_part=False)
    found = _RANGE.fullmatch(headers.get("range", ""))
    if found is None or found.groups() == ("", ""):
        return whole
    if headers.get("if-range", etag) != etag:
        return whole
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return whole
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
    if start >= stop:
        raise RangeUnsatisfiable(size)
    return Piece(start, stop, is_part=True)


def is_known(headers: Mapping[str, str], etag: str) -> bool:
    """Whether the caller has this content already (`If-None-Match`)."""
    known = [one.strip().removeprefix("W/") for one in headers.get("if-none-match", "").split(",")]
    return etag in known or known == ["*"]


def attachment(filename: str) -> str:
    """Return a Content-Disposition: a plain name for old clients, the real one as `filename*`."""
    plain = _PLAIN.sub("_", filename) or "file"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def headers_of(filename: str, size: int, etag: str, piece: Piece) -> dict[str, str]:
    """Return the headers of an answer with these bytes."""
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": attachment(filename),
        "Content-Length": str(piece.stop - piece.start),
        "ETag": etag,
    }
    if piece.is_part:
        headers["Content-Range"] = f"bytes {piece.start}-{piece.stop - 1}/{size}"
    return headers

"""Files out of multipart bodies, as they come: never whole in memory, never on a disk between.

FastAPI's own reading of forms writes every part to a temporary file first, however large.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from conclave.errors import BadRequest, Invalid, TooLarge

AROUND_BYTES = 64 * 1024
"""What a body may hold besides the file: boundaries, headers, other fields."""
_MALFORMED = "The body is not valid multipart/form-data"


@dataclass
class IncomingFile:
    """A part that is a file; `pieces` are read once, to the end of the body."""

    filename: str
    content_type: str | None
    pieces: AsyncIterator[bytes]


class UploadedForm:
    """A body that is read once. The first file named `name` is taken, all else skipped."""

    def __init__(self, request: Request, name: str) -> None:
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise Invalid(name, f"is required: send multipart/form-data with a file named {name}")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_end,
                    "on_end": self._end,
                },
            )
        except FormParserError:
            raise BadRequest(_MALFORMED) from None
        self._name = name
        self._body = request.stream()
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value = b"", b""
        self._found: IncomingFile | None = None
        self._is_inside = self._is_whole = False
        self._pieces: deque[bytes] = deque()
        self._around = 0

    async def file(self) -> IncomingFile:
        """Return the file. Raises `Invalid` where there is none, `BadRequest` for no form."""
        while self._found is None and await self._more():
            pass
        if self._found is None:
            raise Invalid(self._name, f"is required: no part named {self._name} is a file")
        return self._found

    async def _read(self) -> AsyncIterator[bytes]:
        """Return the file's bytes, and make sure that the body is whole."""
        while True:
            while self._pieces:
                yield self._pieces.popleft()
            if not await self._more():
                return

    async def _more(self) -> bool:
        """Read on; False at the end of the body. Raises `BadRequest`, `TooLarge`."""
        chunk = await anext(self._body, b"")
        if not chunk:
            if not self._is_whole:
                raise BadRequest(f"{_MALFORMED}: it ends too early")
            return False
        self._around += len(chunk)
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise BadRequest(_MALFORMED) from None
        if self._around > AROUND_BYTES:
            raise TooLarge(f"The body holds more than {AROUND_BYTES} bytes besides the file")
        return True

    def _part_begin(self) -> None:
        self._headers = {}

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._field.strip().lower()] = self._value
        self._field, self._value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        filename = options.get(b"filename")
        if self._found is None and options.get(b"name") == self._name.encode() and filename:
            kind = self._headers.get(b"content-type")
            self._is_inside = True
            self._found = IncomingFile(
                filename=_text(filename),
                content_type=None if kind is None else _text(kind),
                pieces=self._read(),
            )

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_inside:
            self._pieces.append(data[start:end])
            self._around -= end - start

    def _part_end(self) -> None:
        self._is_inside = False

    def _end(self) -> None:
        self._is_whole = True


def check_announced(request: Request, limit: int) -> None:
    """Refuse a body that says of itself that it is too large, before any of it is read."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > limit + AROUND_BYTES):
        raise TooLarge(f"The file is larger than {limit} bytes")


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")

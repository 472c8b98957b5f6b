"""HTTP for tools: behind the guard, held to a time and a size, and only text comes back."""

from __future__ import annotations

import asyncio
import re
import zlib

import httpx

from conclave.adapters.net.guard import OutgoingGuard
from conclave.adapters.net.redirects import MAX_REDIRECTS
from conclave.adapters.net.transport import guarded_client
from conclave.errors import Invalid, WebFailed
from schema.domain.urls import UrlPurpose
from schema.domain.web import WebAnswer, WebRequest

MAX_BYTES = 2 * 1024 * 1024
"""Of an answer, as it is sent and as it is unpacked."""
MAX_HEADERS = 32
_MAX_VALUE = 8192
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,128}")
_VALUE = re.compile(r"[\x20-\x7e]*")
_NOT_THEIRS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    }
)
"""Headers that belong to the connection, or say who asks."""
_NOT_THEIRS_EITHER = ("proxy-", "x-forwarded-")
_SHOWN = (
    "content-language",
    "date",
    "etag",
    "last-modified",
    "link",
    "location",
    "retry-after",
    "www-authenticate",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
)
_LONGEST_SHOWN = 500
_TEXTUAL = re.compile(
    r"text/.*|application/(.*\+)?(json|xml|javascript|ecmascript|yaml|x-yaml|toml|x-ndjson"
    r"|x-www-form-urlencoded|graphql|sql|x-sh)|image/svg\+xml|"
)
_OWN = {"User-Agent": "Conclave", "Accept": "*/*", "Accept-Encoding": "gzip"}


class GuardedWeb:
    """A `WebClient`. Each request has a client of its own: no cookie outlives it."""

    def __init__(
        self,
        guard: OutgoingGuard,
        *,
        limit: int = MAX_BYTES,
        purpose: UrlPurpose = UrlPurpose.WEB,
        follow_redirects: bool = True,
    ) -> None:
        self._guard = guard
        self._limit = limit
        self._purpose = purpose
        self._follow_redirects = follow_redirects

    async def send(self, request: WebRequest, *, timeout: float) -> WebAnswer:
        """Return the answer. Raises `UrlRefused`, `Invalid`, `WebFailed`."""
        headers = httpx.Headers({**_OWN, **_judged(request.headers)})
        try:
            async with asyncio.timeout(timeout):
                return await self._fetch(request, headers, timeout)
        except (TimeoutError, httpx.TimeoutException):
            raise WebFailed(f"There was no whole answer within {timeout:g} seconds") from None
        except httpx.TooManyRedirects:
            raise WebFailed(f"There were more than {MAX_REDIRECTS} redirects") from None
        except (httpx.InvalidURL, UnicodeError):
            raise Invalid("url", "cannot be read") from None
        except (httpx.HTTPError, OSError, zlib.error):
            raise WebFailed("The server cannot be reached, or its answer cannot be read") from None

    async def _fetch(
        self, request: WebRequest, headers: httpx.Headers, timeout: float
    ) -> WebAnswer:
        content = None if request.body is None else request.body.encode("utf-8", "replace")
        async with (
            guarded_client(self._guard, purpose=self._purpose, timeout=timeout) as client,
            client.stream(
                request.method,
                request.url,
                headers=headers,
                content=content,
                follow_redirects=self._follow_redirects,
            ) as response,
        ):
            raw, is_cut = await self._read(response)
            data = self._unpacked(raw, response.headers.get("content-encoding", ""))
            is_cut = is_cut or len(data) > self._limit
            data = data[: self._limit]
            content_type = response.headers.get("content-type", "")
            return WebAnswer(
                status=response.status_code,
                reason=response.reason_phrase,
                url=str(response.url),
                headers=_shown(response.headers),
                content_type=content_type[:_LONGEST_SHOWN],
                text=_text(data, content_type),
                size=len(data),
                is_cut=is_cut,
            )

    async def _read(self, response: httpx.Response) -> tuple[bytes, bool]:
        data = bytearray()
        async for piece in response.aiter_raw():
            data += piece
            if len(data) > self._limit:
                return bytes(data[: self._limit]), True
        return bytes(data), False

    def _unpacked(self, data: bytes, encoding: str) -> bytes:
        """Unpack no further than one byte past the limit. Raises `WebFailed`, zlib.error."""
        match encoding.strip().lower():
            case "" | "identity":
                return data
            case "gzip" | "x-gzip" | "deflate":
                unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
                return unpack.decompress(data, self._limit + 1)
            case other:
                raise WebFailed(f"The answer is packed in a way that was not asked for: {other!r}")


def _judged(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers as they may be sent. Raises `Invalid`, which tells no value."""
    if len(headers) > MAX_HEADERS:
        raise Invalid("headers", f"are more than {MAX_HEADERS}")
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise Invalid("headers", f"hold a name that is none: {name[:64]!r}")
        if name.lower() in _NOT_THEIRS or name.lower().startswith(_NOT_THEIRS_EITHER):
            raise Invalid("headers", f"must not set {name}")
        if len(value) > _MAX_VALUE or not _VALUE.fullmatch(value):
            raise Invalid("headers", f"hold a value of {name} that cannot be sent")
    return headers


def _shown(headers: httpx.Headers) -> dict[str, str]:
    return {name: headers[name][:_LONGEST_SHOWN] for name in _SHOWN if name in headers}


def _text(data: bytes, content_type: str) -> str | None:
    kind, _, rest = content_type.partition(";")
    if not _TEXTUAL.fullmatch(kind.strip().lower()) or b"\x00" in data[:8192]:
        return None
    found = re.search(r"charset=[\"']?([\w.\-]{1,40})", rest, re.IGNORECASE)
    try:
        return data.decode(found[1] if found else "utf-8", "replace")
    except LookupError:
        return data.decode("utf-8", "replace")

"""Asks a provider for its model list: the cheapest call that needs a key which holds."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import httpx

from conclave.adapters.llm.endpoints import ENDPOINTS, base_url
from conclave.adapters.llm.errors import public_reason
from conclave.adapters.net.guard import OutgoingGuard
from conclave.adapters.net.transport import guarded_client
from conclave.errors import UrlRefused
from schema.domain.providers import ProviderAccess, ProviderName

LIMIT_SECONDS = 10.0
MAX_BYTES = 4 * 1024 * 1024
_ANTHROPIC_VERSION = "2023-06-01"

Result = tuple[bool, str, list[str]]


class HttpProviderProbe:
    """A `ProviderProbe`. Redirects are not followed: the key goes to one address only."""

    def __init__(self, guard: OutgoingGuard, *, timeout: float = LIMIT_SECONDS) -> None:
        self._guard = guard
        self._timeout = timeout

    async def test(self, access: ProviderAccess) -> Result:
        """Return (works, a sentence, the models it lists)."""
        label = ENDPOINTS[access.provider].label
        try:
            async with asyncio.timeout(self._timeout):
                status, body = await self._fetch(access)
        except UrlRefused as error:
            return False, error.message, []
        except TimeoutError:
            return False, f"{label} did not answer within {self._timeout:g} seconds", []
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError):
            return False, f"{label} cannot be reached", []
        return _judge(access, status, body)

    async def _fetch(self, access: ProviderAccess) -> tuple[int, bytes]:
        path, headers = _question(access)
        async with (
            guarded_client(self._guard, field="base_url", administrator=True) as client,
            client.stream("GET", base_url(access) + path, headers=headers) as response,
        ):
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MAX_BYTES:
                    raise ValueError("the answer is too long")
            return response.status_code, bytes(body)


def _question(access: ProviderAccess) -> tuple[str, dict[str, str]]:
    """Return the path below the base URL, and the headers that carry the key."""
    key = access.api_key
    match access.provider:
        case ProviderName.ANTHROPIC:
            headers = {"anthropic-version": _ANTHROPIC_VERSION}
            return "/v1/models", headers | ({"x-api-key": key} if key else {})
        case ProviderName.GOOGLE:
            return "/models", {"x-goog-api-key": key} if key else {}
        case ProviderName.OLLAMA:
            return "/api/tags", {"Authorization": f"Bearer {key}"} if key else {}
        case _:
            return "/models", {"Authorization": f"Bearer {key}"} if key else {}


def _judge(access: ProviderAccess, status: int, body: bytes) -> Result:
    label = ENDPOINTS[access.provider].label
    if status in {401, 403} or (status == 400 and access.provider is ProviderName.GOOGLE):
        return False, "Invalid API key", []
    if status != 200:
        reason = public_reason(_reason(body), [access.api_key or ""])
        return False, f"{label} answered {status}{f': {reason}' if reason else ''}", []
    models = _models(body)
    if models is None:
        return False, f"{label} answered with something else than a list of models", []
    if access.provider is ProviderName.OLLAMA:
        return True, f"Connected to Ollama. {len(models)} models available.", models
    if access.api_key is None:
        return True, f"Connected to {label}. {len(models)} models available.", models
    return True, f"{label} API key is valid", models


def _models(body: bytes) -> list[str] | None:
    """Read `data[].id`, `models[].name` (Ollama) or `models/...` (Google)."""
    document = _object(body)
    rows = document.get("data", document.get("models"))
    if not isinstance(rows, list):
        return None
    names: list[str] = []
    for row in cast("list[object]", rows):
        if isinstance(row, dict):
            fields = cast("dict[str, object]", row)
            name = fields.get("id") or fields.get("name")
            if isinstance(name, str):
                names.append(name.removeprefix("models/").removesuffix(":latest"))
    return names


def _reason(body: bytes) -> str:
    document = _object(body)
    error = document.get("error")
    if isinstance(error, dict):
        error = cast("dict[str, object]", error).get("message")
    return error if isinstance(error, str) else ""


def _object(body: bytes) -> dict[str, object]:
    try:
        document: object = json.loads(body)
    except ValueError:
        return {}
    return cast("dict[str, object]", document) if isinstance(document, dict) else {}

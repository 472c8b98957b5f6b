"""Clients of a work run: HTTP alone, with an API key, and they never give up."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.product import Product
from tests.waiting import until

PATIENCE_SECONDS = 420.0
_ASK_AGAIN_SECONDS = 0.3
_REQUEST_SECONDS = 15.0
_PASSWORD = "correct-Horse-7-battery"
Json = dict[str, Any]


@dataclass
class Clients:
    """Sends each request again until it is answered."""

    product: Product
    open_requests: int = 0
    """Requests that wait for their answer at this moment."""
    retries: int = 0
    answered: int = 0
    _headers: dict[str, str] = field(default_factory=dict[str, str])
    _client: httpx.AsyncClient = field(
        default_factory=lambda: httpx.AsyncClient(
            timeout=httpx.Timeout(_REQUEST_SECONDS, connect=3.0)
        )
    )

    async def sign_up(self) -> None:
        """Register, which makes the first one the administrator, and take a key that lasts."""
        account = {"email": "ada@example.com", "password": _PASSWORD}
        await self.ask("POST", "/api/v1/auth/register", account)
        tokens = await self.ask("POST", "/api/v1/auth/login", account)
        self._headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        wanted = {"name": "chaos", "scopes": ["read", "write", "admin"]}
        made = await self.ask("POST", "/api/v1/security/api-keys", wanted)
        self._headers = {"X-API-Key": made["key"]}

    async def close(self) -> None:
        """Hang up."""
        await self._client.aclose()

    async def ask(self, method: str, path: str, body: Json | None = None) -> Any:
        """Send until it is answered; any refusal fails the run."""
        status, answer = await self.try_to(method, path, body)
        assert status < 400, f"{method} {path}: {status} {answer}"
        return answer

    async def try_to(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        refused: Collection[int] = (),
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Send until it is answered, or refused with one of these statuses."""

        async def attempt() -> httpx.Response | None:
            self.open_requests += 1
            try:
                response = await self._client.request(
                    method,
                    self.product.api + path,
                    json=body if content is None else None,
                    content=content,
                    headers={**self._headers, **(headers or {})},
                )
            except httpx.TransportError:
                self.retries += 1
                return None
            finally:
                self.open_requests -= 1
            if response.status_code >= 500:
                self.retries += 1
                return None
            return response

        response = await until(
            attempt, timeout=PATIENCE_SECONDS, every=_ASK_AGAIN_SECONDS, what=f"{method} {path}"
        )
        assert response is not None
        self.answered += 1
        is_fine = response.is_success or response.status_code in refused
        assert is_fine, f"{method} {path}: {response.status_code} {response.text}"
        return response.status_code, response.json() if response.content else None

"""What stays open for long ends when its caller's rights do: sockets and event streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.credentials import stated_expiry
from conclave.errors import ConclaveError, Forbidden, Unauthenticated
from schema.domain.identity import Principal

UNAUTHENTICATED = 4001
FORBIDDEN = 4003
_TRY_AGAIN = 1013
_LONGEST_REASON = 120
"""In characters: a close frame carries at most 123 bytes."""


class RightsChanged(Unauthenticated):
    """The credential still holds, but says something else than when the connection was made."""

    code = "token_revoked"


class Recheck:
    """Asks again and again whether a credential still means the same caller."""

    def __init__(
        self,
        authenticate: Callable[[str], Awaitable[Principal]],
        credential: str,
        principal: Principal,
        every_seconds: float,
    ) -> None:
        self._authenticate = authenticate
        self._credential = credential
        self._principal = principal
        self._every_seconds = every_seconds
        self._expiry = stated_expiry(credential)

    async def until_lost(self) -> ConclaveError:
        """Return why the caller may not go on, once it may not."""
        while True:
            await asyncio.sleep(self._pause())
            try:
                now = await self._authenticate(self._credential)
            except ConclaveError as error:
                return error
            if now != self._principal:
                return RightsChanged("The rights of these credentials have changed")

    def _pause(self) -> float:
        if self._expiry is None:
            return self._every_seconds
        left = self._expiry - time.time()
        # An expiry that has passed and still holds (leeway) is asked about as usual.
        return min(self._every_seconds, left) if left > 0 else self._every_seconds


def close_of(error: ConclaveError) -> tuple[int, str]:
    """Return the close code and reason for a socket that is refused or cut off."""
    if isinstance(error, Unauthenticated):
        return UNAUTHENTICATED, error.message
    if isinstance(error, Forbidden):
        return FORBIDDEN, error.message
    return _TRY_AGAIN, error.message


async def refuse_socket(receive: Receive, send: Send, code: int, reason: str) -> None:
    """Accept and close: a close before that reaches the client as a bare HTTP 403."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": code, "reason": reason[:_LONGEST_REASON]})


async def run_while_holding(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, recheck: Recheck
) -> None:
    """Run a socket or stream; when its caller may not go on, stop it and end the connection."""
    last = ""

    async def noted(message: Message) -> None:
        nonlocal last
        last = message["type"] if message.get("more_body", True) else "http.done"
        await send(message)

    run = asyncio.ensure_future(app(scope, receive, noted))
    lost = asyncio.create_task(recheck.until_lost())
    try:
        await asyncio.wait({run, lost}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        cut = not run.done()
        run.cancel()
        lost.cancel()
        outcome, reason = await asyncio.gather(run, lost, return_exceptions=True)
    if not cut:
        if isinstance(outcome, BaseException):
            raise outcome
    elif isinstance(reason, ConclaveError):
        await _end(send, last, reason)
    else:
        raise reason


async def _end(send: Send, last: str, reason: ConclaveError) -> None:
    if last in {"websocket.accept", "websocket.send"}:
        code, text = close_of(reason)
        await send({"type": "websocket.close", "code": code, "reason": text[:_LONGEST_REASON]})
    elif last in {"http.response.start", "http.response.body"}:
        await send({"type": "http.response.body", "body": b"", "more_body": False})

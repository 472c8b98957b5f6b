"""/webhook/{slug}: what comes in from outside."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from pydantic import JsonValue
from starlette.requests import ClientDisconnect

from api.aether.schemas.webhooks import ReceivedOut
from api.deps import CoreDep
from api.errors import documented
from api.input import CheckedRouter, find_flaw
from conclave.errors import BadRequest
from conclave.triggers.errors import DeliveryTooLarge
from conclave.triggers.ingress import MOST_BYTES

router = CheckedRouter(prefix="/webhook", tags=["Triggers"])


@router.post(
    "/{slug}",
    summary="Receive a webhook",
    responses=documented(400, 401, 403, 404, 413, 429, 503),
)
async def receive_webhook(
    core: CoreDep, request: Request, slug: Annotated[str, Path(max_length=80)]
) -> ReceivedOut:
    """The body is JSON, signed as Standard Webhooks 1.0 or with `X-Hub-Signature-256`.

    It is stored once for its delivery id and answered at once; what it starts runs afterwards.
    """
    await core.ingress.require(slug)
    body = await _body(request)
    headers = {name.lower(): value for name, value in request.headers.items()}
    return ReceivedOut.from_domain(await core.ingress.receive(slug, headers, body, _flaw))


async def _body(request: Request) -> bytes:
    """Read no further than one piece past the limit."""
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > MOST_BYTES:
                raise DeliveryTooLarge(MOST_BYTES)
    except ClientDisconnect:
        raise BadRequest("The body did not come to its end") from None
    return bytes(body)


def _flaw(body: JsonValue) -> str | None:
    found = find_flaw(body, ("body",))
    return None if found is None else found[1]

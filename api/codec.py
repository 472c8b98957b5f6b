"""The codec server of Temporal's UI and CLI: what is encrypted in histories, made readable.

The protocol is Temporal's: POST {"payloads": [...]} in protobuf's JSON form, the same back.
The gate admits the UI's origin here, and only here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fastapi import Request
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from starlette.responses import Response
from temporalio.api.common.v1 import Payload, Payloads

from api.deps import CoreDep
from api.errors import INVALID_BODY
from api.input import CheckedRouter
from api.security import CODEC_PREFIX
from conclave.crypto import UndecipherableSecret
from conclave.errors import BadRequest

router = CheckedRouter(prefix=CODEC_PREFIX, include_in_schema=False)
Turn = Callable[[Sequence[Payload]], Awaitable[list[Payload]]]


async def _turned(request: Request, turn: Turn | None) -> Response:
    """Apply one direction of the codec; without a key payloads are in the clear already."""
    try:
        payloads = Parse(await request.body(), Payloads(), ignore_unknown_fields=True)
    except (ParseError, UnicodeDecodeError, RecursionError):
        raise BadRequest(INVALID_BODY) from None
    found = list(payloads.payloads)
    try:
        turned = found if turn is None else await turn(found)
    except UndecipherableSecret:
        raise BadRequest("A payload was encrypted with a key that is not at hand") from None
    body = MessageToJson(Payloads(payloads=turned), indent=None)
    return Response(body, media_type="application/json")


@router.post("/decode")
async def decode(core: CoreDep, request: Request) -> Response:
    """Decrypt."""
    return await _turned(request, core.codec and core.codec.decode)


@router.post("/encode")
async def encode(core: CoreDep, request: Request) -> Response:
    """Encrypt."""
    return await _turned(request, core.codec and core.codec.encode)

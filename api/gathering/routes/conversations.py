"""/conversations."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Query, Response

from api.deps import CoreDep, PrincipalDep
from api.errors import documented
from api.gathering.schemas.conversations import (
    AdvancedOut,
    AdvanceIn,
    ConversationIn,
    ConversationOut,
    MessageOut,
)
from api.gathering.schemas.fields import PathId
from api.input import CheckedRouter
from api.pagination import Page, Window, window
from conclave.conversations.commands import ConversationFilter
from schema.domain.conversations import ConversationStatus

router = CheckedRouter(prefix="/conversations", tags=["Conversations"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=r"^[\x20-\x7e]{1,255}$",
        description="The same key never runs a second turn and returns the first answer.",
    ),
]


@router.get(
    "",
    summary="List conversations",
    responses=documented(401, 403, 422, 503),
)
async def list_conversations(
    core: CoreDep,
    response: Response,
    piece: Annotated[Window, Depends(window(50))],
    circle_name: Annotated[str | None, Query(max_length=255)] = None,
    status: ConversationStatus | None = None,
) -> list[ConversationOut] | Page[ConversationOut]:
    """Newest first; of one circle and in one status where asked."""
    wanted = ConversationFilter(circle_name=circle_name, status=status)
    found, total = await core.conversations.list(wanted, limit=piece.limit, offset=piece.offset)
    return piece.answer([ConversationOut.from_domain(one) for one in found], total, response)


@router.post(
    "",
    status_code=201,
    summary="Create a conversation",
    responses=documented(400, 401, 403, 404, 409, 413, 422, 503),
)
async def create_conversation(
    core: CoreDep, principal: PrincipalDep, body: ConversationIn
) -> ConversationOut:
    """Answers at once.

    With `auto_run` the agents talk by themselves until `max_turns`, an end marker, or until it
    is ended; without it each advance is one turn.
    """
    return ConversationOut.from_domain(
        await core.conversations.create(body.to_command(), principal)
    )


@router.get(
    "/{conversation_id}",
    summary="Get a conversation",
    responses=documented(401, 403, 404, 422, 503),
)
async def get_conversation(
    core: CoreDep, principal: PrincipalDep, conversation_id: PathId
) -> ConversationOut:
    """How far it is, and the id of its workflow."""
    return ConversationOut.from_domain(await core.conversations.get(conversation_id, principal))


@router.get(
    "/{conversation_id}/messages",
    summary="Get a conversation's messages",
    responses=documented(401, 403, 404, 422, 503),
)
async def list_messages(
    core: CoreDep,
    principal: PrincipalDep,
    response: Response,
    conversation_id: PathId,
    piece: Annotated[Window, Depends(window(500))],
    after_seq: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> list[MessageOut] | Page[MessageOut]:
    """In order. `after_seq` skips what is known already: `seq` has no gaps."""
    start = min(after_seq + piece.offset, 2**31 - 1)
    messages, total = await core.conversations.messages(
        conversation_id, principal, after_seq=start, limit=piece.limit
    )
    return piece.answer([MessageOut.from_domain(one) for one in messages], total, response)


@router.post(
    "/{conversation_id}/advance",
    summary="Advance a conversation",
    responses={
        202: {"model": AdvancedOut, "description": "Accepted: the turn is still to come"},
        **documented(400, 401, 402, 403, 404, 409, 413, 422, 502, 503, 504),
    },
)
async def advance_conversation(
    core: CoreDep,
    principal: PrincipalDep,
    response: Response,
    conversation_id: PathId,
    body: AdvanceIn | None = None,
    idempotency_key: IdempotencyKey = None,
    wait: Annotated[bool, Query(description="Wait for the turn to be over")] = True,
) -> AdvancedOut:
    """Append `prompt` as a user message and run the next turn.

    Answers when the turn is over, or at once with `wait=false`. Where a turn takes longer
    than the server waits the answer is 202 too, and the turn goes on.
    """
    command = (body or AdvanceIn()).to_command(idempotency_key)
    advanced = await core.conversations.advance(conversation_id, command, principal, wait=wait)
    response.status_code = 200 if advanced.finished else 202
    return AdvancedOut.from_domain(advanced)


@router.post(
    "/{conversation_id}/end",
    summary="End a conversation",
    responses=documented(401, 403, 404, 409, 422, 503),
)
async def end_conversation(
    core: CoreDep, principal: PrincipalDep, conversation_id: PathId
) -> ConversationOut:
    """For good. One that has ended already stays as it is."""
    return ConversationOut.from_domain(await core.conversations.end(conversation_id, principal))

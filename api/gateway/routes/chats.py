"""/api/chats."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import Query, Response

from api.deps import CoreDep, PrincipalDep
from api.errors import documented
from api.gateway.schemas.chats import (
    ChatIn,
    ChatsOut,
    CompactedOut,
    ContextOut,
    NewChatOut,
    TranscriptOut,
)
from api.gateway.schemas.profiles import ChosenOut, ProfileChoice
from api.input import CheckedRouter
from api.pagination import MAX_OFFSET, TOTAL_HEADER

_MOST_CHATS = 1000

router = CheckedRouter(prefix="/api/chats", tags=["Chats"])


@router.post(
    "",
    status_code=201,
    summary="Create a chat",
    responses=documented(400, 401, 403, 404, 409, 413, 422, 429, 503),
)
async def create_chat(
    core: CoreDep, principal: PrincipalDep, body: ChatIn | None = None
) -> NewChatOut:
    """Without an agent it is one with the assistant, which is made when it is first asked for."""
    chat = await core.chats.create((body or ChatIn()).to_command(), principal)
    return NewChatOut.from_domain(chat)


@router.get("", summary="List chats", responses=documented(401, 403, 422, 429, 503))
async def list_chats(
    core: CoreDep,
    principal: PrincipalDep,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=_MOST_CHATS, description="Most rows to return")] = 500,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="Rows to skip")] = 0,
) -> ChatsOut:
    """Your own, the latest activity first; administrators see everybody's."""
    chats, total = await core.chats.list(principal, limit=limit, offset=offset)
    response.headers[TOTAL_HEADER] = str(total)
    return ChatsOut.of(chats)


@router.get("/{chat_id}", summary="Read a chat", responses=documented(401, 403, 404, 422, 429, 503))
async def get_chat(core: CoreDep, principal: PrincipalDep, chat_id: uuid.UUID) -> TranscriptOut:
    """All that was said, with the tool calls and what they answered."""
    return TranscriptOut.of(chat_id, await core.chats.turns(chat_id, principal))


@router.delete(
    "/{chat_id}",
    status_code=204,
    summary="Delete a chat",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def delete_chat(core: CoreDep, principal: PrincipalDep, chat_id: uuid.UUID) -> None:
    """A running turn is cancelled first, and what waits is dropped."""
    await core.chats.delete(chat_id, principal)


@router.get(
    "/{chat_id}/context",
    summary="Get a chat's context use",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def get_context(core: CoreDep, principal: PrincipalDep, chat_id: uuid.UUID) -> ContextOut:
    """Counted in tokens of the model in use. Past the threshold the chat is compacted."""
    chat = await core.chats.get(chat_id, principal)
    return ContextOut.from_domain(await core.compaction.context(chat.conversation_id))


@router.post(
    "/{chat_id}/compact",
    summary="Compact a chat",
    responses=documented(400, 401, 402, 403, 404, 409, 422, 429, 502, 503, 504),
)
async def compact_chat(core: CoreDep, principal: PrincipalDep, chat_id: uuid.UUID) -> CompactedOut:
    """Summarise all but the last 4 user turns for the model; the transcript stays whole."""
    chat = await core.chats.get(chat_id, principal)
    return CompactedOut.from_domain(await core.compaction.compact(chat.conversation_id, principal))


@router.get(
    "/{chat_id}/profile",
    summary="Get a chat's profile",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def get_chat_profile(core: CoreDep, principal: PrincipalDep, chat_id: uuid.UUID) -> ChosenOut:
    """The one chosen for it, else the default one."""
    return ChosenOut(profile_name=await core.chats.profile(chat_id, principal))


@router.put(
    "/{chat_id}/profile",
    summary="Switch a chat's profile",
    responses=documented(400, 401, 403, 404, 413, 422, 429, 503),
)
async def set_chat_profile(
    core: CoreDep, principal: PrincipalDep, chat_id: uuid.UUID, body: ProfileChoice
) -> ChosenOut:
    """It takes effect at the next model call."""
    name = await core.chats.set_profile(chat_id, body.profile_name, principal)
    return ChosenOut(profile_name=name)

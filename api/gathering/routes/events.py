"""A conversation as it happens, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import Depends, Header, Query

from api.deps import CoreDep, PrincipalDep
from api.errors import documented
from api.event_stream import EventStream
from api.gathering.schemas.fields import MAX_ID, PathId
from api.input import CheckedRouter
from api.stream import HubDep
from api.subscriptions import Channel, Subscription

router = CheckedRouter(tags=["Conversations"])


async def _subscription(
    conversation_id: PathId,
    core: CoreDep,
    hub: HubDep,
    principal: PrincipalDep,
    after: Annotated[
        int | None,
        Query(ge=0, le=MAX_ID, description="Replay what came after this `seq` first."),
    ] = None,
    last_event_id: Annotated[
        int | None,
        Header(
            alias="Last-Event-ID",
            ge=0,
            le=MAX_ID,
            description="As `after`, and before it: browsers send it when they reconnect.",
        ),
    ] = None,
) -> AsyncGenerator[Subscription]:
    await core.conversations.get(conversation_id, principal)
    channel = Channel(f"conversations/{conversation_id}", conversation_id=conversation_id)
    start = after if last_event_id is None else last_event_id
    async with hub.subscribe(channel, principal, after=start) as subscription:
        yield subscription


@router.get(
    "/conversations/{conversation_id}/events",
    status_code=200,
    summary="Watch a conversation",
    description=(
        "Server-sent events, each `{type, data, timestamp, seq}`. `id` is the event's `seq` in the"
        " conversation; send it back as `Last-Event-ID` to miss nothing. Text deltas"
        " (`conversation.text_delta`) have no id and are superseded by the message they lead to."
    ),
    response_class=EventStream,
    responses={
        200: {"description": "The events", "content": {"text/event-stream": {}}},
        **documented(404, 422, 503),
    },
)
async def watch_conversation(
    subscription: Annotated[Subscription, Depends(_subscription)],
) -> EventStream:
    """Stream a conversation's events."""
    return EventStream(subscription)

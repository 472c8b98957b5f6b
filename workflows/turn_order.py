"""Who speaks next: pure code over the floor, so that a replay chooses as the first run did."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from schema.domain.conversations import TurnStrategy
    from schema.domain.inbox import InboxItem
    from schema.payloads.agent_turn import CompleteResult
    from schema.payloads.conversations import Floor


class Choice(NamedTuple):
    """Who speaks, and whether that is by the order of the round: it goes on from there."""

    agent_id: int
    in_order: bool


def choose_speaker(floor: Floor, item: InboxItem | None, random: Random) -> Choice:
    """Return the agent whose turn it is.

    A request that names an agent is obeyed. Else the strategy decides, on whom the last
    message (the request's prompt, if it has one) calls upon and on who spoke lately.
    """
    if item is not None and item.agent_id is not None:
        return Choice(item.agent_id, in_order=False)
    called = _called(floor, item)
    match floor.strategy:
        case TurnStrategy.ROUND_ROBIN:
            return _next_in_order(floor, floor.agent_ids)
        case TurnStrategy.MENTION_BASED:
            return Choice(called[0], False) if called else _next_in_order(floor, _not_last(floor))
        case TurnStrategy.FREE_FORM:
            return Choice(called[0] if called else random.choice(_not_lately(floor)), False)
        case TurnStrategy.FACILITATOR_LED:
            return _facilitated(floor, called)


def _called(floor: Floor, item: InboxItem | None) -> list[int]:
    if item is not None and item.prompted:
        return [agent for agent in item.mentions if agent in floor.agent_ids]
    return [
        agent
        for agent in floor.mentioned
        if agent in floor.agent_ids and agent != floor.last_speaker
    ]


def note_spoken(floor: Floor, choice: Choice, reply: CompleteResult) -> None:
    """Remember who spoke and whom the reply calls upon."""
    speaker = choice.agent_id
    before, floor.last_speaker = floor.last_speaker, speaker
    if choice.in_order:
        floor.last_in_order = speaker
    floor.recent = [*floor.recent, speaker][-len(floor.agent_ids) :]
    # "Thanks Bob, now Cyd": the name of who has just spoken is no call without an @.
    named = [agent for agent in reply.named if agent != before]
    names_next = floor.strategy is TurnStrategy.FACILITATOR_LED and speaker == floor.facilitator_id
    floor.mentioned = reply.mentions or (named if names_next else [])


def drop_agent(floor: Floor, agent_id: int) -> None:
    """Take an agent that is gone off the floor; the round goes on behind its place."""
    if agent_id == floor.last_in_order and agent_id in floor.agent_ids:
        floor.last_in_order = floor.agent_ids[floor.agent_ids.index(agent_id) - 1]
    floor.agent_ids = [agent for agent in floor.agent_ids if agent != agent_id]
    if floor.facilitator_id == agent_id:
        floor.facilitator_id = None
        floor.strategy = TurnStrategy.ROUND_ROBIN


def _facilitated(floor: Floor, called: list[int]) -> Choice:
    facilitator = floor.facilitator_id
    if facilitator is None:
        return _next_in_order(floor, floor.agent_ids)
    if floor.last_speaker != facilitator:
        return Choice(facilitator, in_order=False)
    others = [agent for agent in floor.agent_ids if agent != facilitator]
    # A prompt that calls nobody does not undo whom the facilitator has named.
    chosen = [agent for agent in called or floor.mentioned if agent in others]
    if chosen:
        return Choice(chosen[0], in_order=False)
    return _next_in_order(floor, others) if others else Choice(facilitator, in_order=False)


def _not_last(floor: Floor) -> list[int]:
    return [agent for agent in floor.agent_ids if agent != floor.last_speaker] or floor.agent_ids


def _not_lately(floor: Floor) -> list[int]:
    """Return those who did not speak in the last half round; never the last speaker."""
    lately = set(floor.recent[-max(1, len(floor.agent_ids) // 2) :]) | {floor.last_speaker}
    return [agent for agent in floor.agent_ids if agent not in lately] or _not_last(floor)


def _next_in_order(floor: Floor, candidates: list[int]) -> Choice:
    """Return the first candidate after the last one that spoke in its order."""
    order = floor.agent_ids
    start = order.index(floor.last_in_order) + 1 if floor.last_in_order in order else 0
    rotated = order[start:] + order[:start]
    return Choice(next(agent for agent in rotated if agent in candidates), in_order=True)

"""What a new conversation must satisfy before it is stored."""

from __future__ import annotations

from conclave.conversations.commands import CreateConversation
from conclave.conversations.creation import NewConversation
from conclave.conversations.errors import CircleNotActive
from conclave.conversations.mentions import mentions
from conclave.conversations.repository import CircleRules, ConversationRepository, Participant
from conclave.db import Transaction
from conclave.errors import Invalid, NotFound
from schema.domain.agents import AT_REST
from schema.domain.circles import CircleConfig, CircleStatus, MemberRole
from schema.domain.conversations import ConversationKind, TurnStrategy
from schema.domain.identity import Principal

_ADHOC_TURN_TIMEOUT = 120


def adhoc(command: CreateConversation, principal: Principal) -> NewConversation:
    """Return the row of a conversation without a circle. Raises `Invalid` naming the field."""
    config = CircleConfig(turn_timeout=_ADHOC_TURN_TIMEOUT)
    return _new(command, principal, list(dict.fromkeys(command.agent_ids)), config, None)


async def admit(
    tx: Transaction,
    conversations: ConversationRepository,
    command: CreateConversation,
    principal: Principal,
) -> NewConversation:
    """Return the row to store after asking for every agent and the circle.

    Raises `NotFound`, `CircleNotActive`, `Invalid` naming the field.
    """
    agent_ids = list(dict.fromkeys(command.agent_ids))
    agents = await conversations.participants(tx, agent_ids)
    _require_all(agent_ids, agents)
    circle: CircleRules | None = None
    config = CircleConfig(turn_timeout=_ADHOC_TURN_TIMEOUT)
    if command.circle_name is not None:
        circle, config, agent_ids = await _in_circle(
            tx, conversations, command.circle_name, agent_ids
        )
    new = _new(command, principal, agent_ids, config, circle)
    if command.initial_prompt is None:
        return new
    names = {agent.id: agent.name for agent in agents}
    return new.model_copy(update={"mentions": mentions(command.initial_prompt, names)})


def _new(
    command: CreateConversation,
    principal: Principal,
    agent_ids: list[int],
    config: CircleConfig,
    circle: CircleRules | None,
) -> NewConversation:
    strategy = command.turn_strategy or config.conversation_mode
    facilitator = command.facilitator_id
    if facilitator is None and strategy is TurnStrategy.FACILITATOR_LED:
        facilitator = config.moderator_agent_id
    if facilitator is not None and facilitator not in agent_ids:
        raise Invalid("facilitator_id", f"agent {facilitator} is not one of agent_ids")
    if strategy is TurnStrategy.FACILITATOR_LED and facilitator is None:
        raise Invalid("facilitator_id", "required for a facilitator_led conversation")
    return NewConversation(
        kind=ConversationKind.CONVERSATION,
        owner=principal.key,
        circle_id=None if circle is None else circle.id,
        circle_name=command.circle_name,
        topic=command.topic,
        agent_ids=agent_ids,
        turn_strategy=strategy,
        facilitator_id=facilitator,
        auto_run=command.auto_run,
        max_turns=_max_turns(command, circle, config),
        turn_timeout=config.turn_timeout,
        prompt=command.initial_prompt,
    )


def _require_all(agent_ids: list[int], agents: list[Participant]) -> None:
    found = {agent.id for agent in agents}
    missing = [agent_id for agent_id in agent_ids if agent_id not in found]
    if missing:
        raise Invalid("agent_ids", f"no agent has the id {missing[0]}")
    resting = [agent for agent in agents if agent.state in AT_REST]
    if resting:
        raise Invalid("agent_ids", f"agent {resting[0].id} is {resting[0].state}")


async def _in_circle(
    tx: Transaction, conversations: ConversationRepository, name: str, agent_ids: list[int]
) -> tuple[CircleRules, CircleConfig, list[int]]:
    """Return the circle, its rules, and the agents without its observers, who get no turn."""
    circle = await conversations.circle(tx, name)
    if circle is None:
        raise NotFound(f"Circle '{name}' not found")
    if circle.status != CircleStatus.ACTIVE:
        raise CircleNotActive(name, circle.status)
    roles = await conversations.member_roles(tx, circle.id)
    for agent_id in agent_ids:
        if agent_id not in roles:
            raise Invalid("agent_ids", f"agent {agent_id} is not a member of circle '{name}'")
    speaking = [agent_id for agent_id in agent_ids if roles[agent_id] != MemberRole.OBSERVER]
    if not speaking:
        raise Invalid("agent_ids", "observers are never given a turn: name a member that speaks")
    return circle, CircleConfig.model_validate(circle.config), speaking


def _max_turns(
    command: CreateConversation, circle: CircleRules | None, config: CircleConfig
) -> int:
    """A circle's limit caps what is asked for."""
    if circle is None:
        return command.max_turns
    return min(command.max_turns, config.max_turns_per_conversation)

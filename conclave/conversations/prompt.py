"""What a model is told when it is an agent's turn: pure code over the record."""

from __future__ import annotations

from collections.abc import Sequence

from conclave.conversations.turn_repository import Opening, TranscriptLine
from schema.domain.conversations import ConversationKind, MessageRole
from schema.domain.llm import PromptMessage

_NO_ANSWER = "There is no answer: the turn was stopped before this call ran."
_YOUR_TURN = "It is your turn. Say what you have to say about the topic."


def build_prompt(
    opening: Opening, names: dict[int, str], transcript: Sequence[TranscriptLine]
) -> list[PromptMessage]:
    """Return system prompt and transcript as the speaking agent sees them.

    Its own words are the assistant's; everybody else's are the user's, under their names.
    Neighbouring messages of one role are joined: several providers ask for strict turns.
    """
    messages = [PromptMessage(role=MessageRole.SYSTEM, content=_system_prompt(opening, names))]
    for line in transcript:
        own = line.role is MessageRole.ASSISTANT and line.agent_id == opening.agent_id
        if line.tool_calls:
            messages.extend(_tool_step(line) if own else _tool_words(line))
            continue
        role = MessageRole.ASSISTANT if own else MessageRole.USER
        others = len(names) > 1 and line.agent_name is not None
        content = f"{line.agent_name}: {line.content}" if others and not own else line.content
        if messages[-1].role is role and not messages[-1].tool_calls:
            joined = f"{messages[-1].content}\n\n{content}"
            messages[-1] = PromptMessage(role=role, content=joined)
        else:
            messages.append(PromptMessage(role=role, content=content))
    if messages[-1].role not in (MessageRole.USER, MessageRole.TOOL):
        messages.append(PromptMessage(role=MessageRole.USER, content=_YOUR_TURN))
    return messages


def _tool_step(line: TranscriptLine) -> list[PromptMessage]:
    """Return an own reply that asked for tools, and an answer to each of its calls.

    Providers refuse a call without an answer, so what never got one is given one.
    """
    answers = {answer.id: answer.content for answer in line.results or ()}
    calls = line.tool_calls or []
    asked = PromptMessage(role=MessageRole.ASSISTANT, content=line.content, tool_calls=calls)
    return [
        asked,
        *(
            PromptMessage(
                role=MessageRole.TOOL,
                content=answers.get(call.id, _NO_ANSWER),
                tool_call_id=call.id,
            )
            for call in calls
        ),
    ]


def _tool_words(line: TranscriptLine) -> list[PromptMessage]:
    """Return what another agent said beside its calls: what it did with tools is its own."""
    if not line.content.strip():
        return []
    content = f"{line.agent_name}: {line.content}"
    return [PromptMessage(role=MessageRole.USER, content=content)]


def _system_prompt(opening: Opening, names: dict[int, str]) -> str:
    role = f", {opening.agent_role}" if opening.agent_role else ""
    parts = [f"You are {opening.agent_name}{role}."]
    if opening.personality is not None:
        personality = opening.personality
        if personality.traits:
            parts.append(f"Your traits: {', '.join(personality.traits)}.")
        parts.append(f"Your style: {personality.communication_style}.")
        parts.append(f"You speak {', '.join(personality.languages)}.")
    for key, value in (opening.background or {}).items():
        parts.append(f"{key.replace('_', ' ').capitalize()}: {value}")
    own_prompt = (opening.config.model_extra or {}).get("system_prompt") if opening.config else None
    if isinstance(own_prompt, str) and own_prompt.strip():
        parts.append(own_prompt.strip())
    place = _place(opening)
    if place is not None:
        parts.append(place)
    others = [name for agent_id, name in names.items() if agent_id != opening.agent_id]
    parts.append(f"The topic: {opening.topic}")
    if others:
        parts.append(
            f"You talk with {', '.join(others)}. Speak only for yourself and do not begin with "
            "your name. To call upon somebody, write @ and the name. When nothing is left to "
            "say, end with [DONE]."
        )
    return "\n".join(parts)


def _place(opening: Opening) -> str | None:
    """Say where the tools of an agent work; None for one that has none."""
    named = opening.config is not None and bool(opening.config.tools)
    if opening.kind != ConversationKind.CHAT and not named:
        return None
    whose = "this chat alone" if opening.project_id is None else "the project"
    return (
        f"Your tools work in the workspace of {whose}: paths are relative to it, and commands see "
        "it as /workspace, in a sandbox without a network."
    )

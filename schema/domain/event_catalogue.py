"""The names under which people know events (platform.md, section 29).

Triggers, notification rules, webhooks and the platform's socket share them. What the log stores
under another name is told apart here by what happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from schema.domain.events import Event, EventType

_PLANNED: Final = (
    "worker.online",
    "worker.offline",
    "message.new",
    "code_review.created",
    "code_review.decided",
    "webhook.test",
    "conversation.started",
    "conversation.message",
    "conversation.paused",
    "conversation.completed",
    "conversation.failed",
    "agent.activity",
    "workspace.changed",
    "tool.executed",
)
_FROM_OUTSIDE: Final = (
    "issue.created",
    "issue.updated",
    "issue.closed",
    "issue.commented",
    "pr.opened",
    "pr.updated",
    "pr.closed",
    "pr.merged",
    "pr.reviewed",
    "deployment.completed",
)
_FREE_PREFIXES: Final = ("issue.", "pr.", "deployment.")
"""Canonical events of the Aether dialect need no registration."""
CATALOGUE: Final = frozenset(
    {*_PLANNED, *_FROM_OUTSIDE, *(kind.value for kind in EventType)} - {EventType.TEXT_DELTA.value}
)
_STATUS_NAMES: Final[Mapping[str, str]] = {
    "pending": "conversation.started",
    "active": "conversation.started",
    "running": "conversation.started",
    "paused": "conversation.paused",
    "completed": "conversation.completed",
    "failed": "conversation.failed",
}
_TOOL_ENDS: Final = (EventType.TOOL_RESULT, EventType.TOOL_DENIED)


def is_pattern(text: str) -> bool:
    """Whether `text` is a name of the catalogue, or a prefix of one with a final `*`."""
    if not text.endswith("*"):
        return text in CATALOGUE or text.startswith(_FREE_PREFIXES)
    prefix = text[:-1]
    return "*" not in prefix and (
        prefix.startswith(_FREE_PREFIXES) or any(name.startswith(prefix) for name in CATALOGUE)
    )


def matches(pattern: str, name: str) -> bool:
    """Whether an event of that name is meant."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def names_of(event: Event) -> tuple[str, ...]:
    """Return the names an event goes by: the log's own, and the catalogue's where it differs."""
    other = _other_name(event.type, event.data)
    return (event.type.value,) if other is None else (event.type.value, other)


def _other_name(kind: EventType, data: Mapping[str, JsonValue]) -> str | None:
    if kind is EventType.CONVERSATION_STATUS:
        return _STATUS_NAMES.get(str(data.get("status")))
    if kind is EventType.CONVERSATION_CREATED:
        return "conversation.started"
    return "tool.executed" if kind in _TOOL_ENDS else None

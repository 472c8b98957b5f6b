"""How full a chat's context is, and what summarising its beginning saved."""

from __future__ import annotations

from schema.domain.base import Shape

COMPACTION_THRESHOLD = 0.75
"""Of the context window: beyond it a chat is compacted before the next model call."""
TURNS_KEPT = 4
"""User turns that stay word for word."""


class ContextUse(Shape):
    """What the next model call would be sent. Counts are in tokens of the model in use."""

    current_tokens: int
    context_window: int
    turns: int
    """User turns that are still sent word for word."""
    model: str


class Compacted(Shape):
    """What a compaction saved."""

    tokens_before: int
    tokens_after: int
    turns_removed: int

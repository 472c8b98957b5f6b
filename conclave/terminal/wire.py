"""What the server sends, as far as a terminal reads it (gateway.md, platform.md section 22).

Everything but what identifies a thing has a default: a server may leave it out.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, JsonValue, ValidationError

from schema.domain.base import Shape


class ToolCall(Shape):
    """A call that the model asks for."""

    id: str
    name: str
    arguments: dict[str, JsonValue] = {}


class Frame(Shape):
    """One event of a chat's socket. `seq` is None where the server does not count it."""

    type: str
    data: dict[str, JsonValue] = {}
    seq: int | None = None

    def text(self, name: str) -> str:
        """Return a field as text, empty where there is none."""
        value = self.data.get(name)
        return "" if value is None else value if isinstance(value, str) else str(value)

    def number(self, name: str) -> float:
        """Return a field as a number, 0 where there is none."""
        value = self.data.get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else 0

    def calls(self, name: str = "tool_calls") -> list[ToolCall]:
        """Return the tool calls of a field; what is none is left out."""
        value = self.data.get(name)
        found: list[ToolCall] = []
        for entry in value if isinstance(value, list) else []:
            try:
                found.append(ToolCall.model_validate(entry))
            except ValidationError:
                continue
        return found


class ChatInfo(Shape):
    """A chat in the list, or one just made."""

    chat_id: str
    title: str | None = None
    profile: str | None = None
    message_count: int = 0
    updated_at: datetime | None = None


class ChatList(Shape):
    """GET /api/chats."""

    chats: list[ChatInfo]


class Turn(Shape):
    """One message of a chat's transcript."""

    role: str
    content: str | None = None


class Transcript(Shape):
    """GET /api/chats/{chat_id}."""

    turns: list[Turn]


class ContextUse(Shape):
    """How full the model's window is."""

    current_tokens: int
    context_window: int
    compaction_threshold: float = 0.75
    turns: int = 0
    model: str | None = None


class Compacted(Shape):
    """What a compaction did."""

    tokens_before: int
    tokens_after: int
    turns_removed: int


class ModelProfile(Shape):
    """A profile in the list."""

    provider: str = ""
    model: str = ""


class Profiles(Shape):
    """GET /api/profiles."""

    default: str | None = None
    profiles: dict[str, ModelProfile]


class ActiveProfile(Shape):
    """A chat's profile."""

    profile_name: str | None


class PermissionState(Shape):
    """The mode, and the tools it does not hold for."""

    mode: str
    tool_overrides: dict[str, str] = {}


class Waiting(Shape):
    """An approval; `status` is `pending` as long as it waits."""

    id: int
    type: str = ""
    action: str
    description: str | None = None
    risk_level: str = "medium"
    status: str
    task_id: int | None = None
    agent_id: int | None = None
    agent_name: str | None = None
    details: dict[str, JsonValue] = Field(default_factory=dict)
    requested_at: datetime
    expires_at: datetime | None = None
    decided_by: int | None = None
    decided_at: datetime | None = None
    decision_note: str | None = None
    rejection_reason: str | None = None
    required_approvals: int = 1
    approvals_count: int = 0
    edited: dict[str, JsonValue] | None = Field(default=None, validation_alias="arguments")
    """By somebody who said yes to these: whoever says yes now has to name them too."""

    @property
    def progress(self) -> str:
        """How many have said yes, empty where one is enough."""
        if self.required_approvals < 2:
            return ""
        return f"{self.approvals_count} of {self.required_approvals}"

    @property
    def arguments(self) -> dict[str, JsonValue] | None:
        """What would run, None where there is nothing to edit."""
        if self.edited is not None:
            return self.edited
        if self.type == "budget_increase" and "to_usd" in self.details:
            return {"to_usd": self.details["to_usd"]}
        value = self.details.get("tool_args")
        return value if isinstance(value, dict) else None

"""What a client of a chat's socket says: both forms of it, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self, TypeAlias, TypeVar, cast

from pydantic import (
    BaseModel,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)

from api.gateway.schemas.fields import MAX_MESSAGE
from api.input import find_flaw

_Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_MESSAGE)]
_Word = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class InvalidEvent(ValueError):
    """It cannot be read; the text says why."""


class UserMessage(BaseModel):
    """`{type: user_message, content, stream?, id?}`; `id` makes it the same when sent twice."""

    content: _Text
    stream: bool = True
    id: _Word | None = None


class Judged(BaseModel):
    """A verdict with more than its name."""

    verdict: Literal["allow", "deny", "allow_always", "edit"]
    arguments: dict[str, JsonValue] | None = None
    reason: Annotated[str, StringConstraints(max_length=2000)] | None = None

    @model_validator(mode="after")
    def _has_what_it_edits(self) -> Self:
        if (self.verdict == "edit") is (self.arguments is None):
            raise ValueError("edit, and nothing else, comes with arguments")
        return self


Verdict: TypeAlias = Literal["allow", "deny", "allow_always"] | Judged


class ToolApproval(BaseModel):
    """`{type: tool_approval, verdicts: {tool_use_id: verdict}}`."""

    verdicts: Annotated[dict[str, Verdict], Field(min_length=1, max_length=256)]

    def judged(self) -> dict[str, Judged]:
        """Return every verdict in its long form."""
        return {
            tool_use_id: given if isinstance(given, Judged) else Judged(verdict=given)
            for tool_use_id, given in self.verdicts.items()
        }


class VerdictOnAll(BaseModel):
    """The older form: one verdict for all that is pending."""

    approved: bool


@dataclass(frozen=True)
class Cancel:
    """Stop the running turn."""


@dataclass(frozen=True)
class Panic:
    """Stop it, and drop what waits."""


@dataclass(frozen=True)
class Ping:
    """Is anybody there?"""


ClientMessage: TypeAlias = UserMessage | ToolApproval | VerdictOnAll | Cancel | Panic | Ping
Said = TypeVar("Said", bound=BaseModel)
_BARE = {"cancel": Cancel(), "panic": Panic(), "ping": Ping()}


def parse(text: str) -> ClientMessage:
    """Read one message. Raises `InvalidEvent`."""
    try:
        root: object = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidEvent("Not JSON") from None
    if not isinstance(root, dict):
        raise InvalidEvent("Not a JSON object")
    said = cast("dict[str, JsonValue]", root)
    flaw = find_flaw(said, ())
    if flaw is not None:
        raise InvalidEvent(f"{_place(flaw[0])}: {flaw[1]}")
    type_, data = said.get("type"), said.get("data")
    fields = {**said, **data} if isinstance(data, dict) else said
    if isinstance(type_, str) and type_ in _BARE:
        return _BARE[type_]
    if type_ == "user_message":
        return _validated(UserMessage, fields)
    if type_ == "run":
        return _run(fields)
    if type_ == "tool_approval":
        older = "approved" in fields and "verdicts" not in fields
        return _validated(VerdictOnAll, fields) if older else _validated(ToolApproval, fields)
    raise InvalidEvent(f"Unknown type {json.dumps(type_)[:80]}")


def _run(fields: Mapping[str, JsonValue]) -> UserMessage:
    """Read the older form of a message; it asks for whole texts unless it says otherwise."""
    blocks = fields.get("content")
    content = fields.get("message") if not blocks else _text_of(blocks)
    given = {"content": content, "stream": fields.get("stream", False)}
    return _validated(UserMessage, given)


def _text_of(blocks: JsonValue) -> JsonValue:
    """Return the text of content blocks. Raises `InvalidEvent` for pictures and the like."""
    if not isinstance(blocks, list):
        return blocks
    texts: list[str] = []
    for block in blocks:
        text = block.get("text") if isinstance(block, dict) else block
        if not isinstance(text, str):
            raise InvalidEvent("content: only text is taken")
        texts.append(text)
    return "\n".join(texts)


def _validated(shape: type[Said], fields: Mapping[str, JsonValue]) -> Said:
    try:
        return shape.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise InvalidEvent(f"{_place(first['loc'])}: {first['msg']}") from None


def _place(loc: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in loc)[:200] or "message"

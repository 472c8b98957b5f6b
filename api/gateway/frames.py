"""A chat's events as its sockets are told of them.

Every stored event of the chat is one frame with its seq, so that a client that counts misses
nothing. What is not stored (text deltas, errors of the socket itself) carries the seq of the last
stored one: `?after=` with it loses nothing either.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pydantic import JsonValue

from api.subscriptions import Item
from conclave.errors import BudgetExhausted
from schema.domain.chats import ChatStanding, PendingCall
from schema.domain.events import Delta, Event, EventType

Frame = dict[str, JsonValue]
Data = dict[str, JsonValue]
_EXPECTED_KEPT = 256
_NO_USAGE: Data = {"input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0}
_TYPES = {
    EventType.CONVERSATION_CREATED: "session.created",
    EventType.CONVERSATION_STATUS: "session.status",
    EventType.TURN_STARTED: "agent.turn_started",
    EventType.TURN_COMPLETED: "agent.turn_complete",
    EventType.TOOL_REQUESTED: "agent.tool_request",
    EventType.TOOL_STARTED: "agent.tool_started",
    EventType.TOOL_RESULT: "agent.tool_result",
    EventType.TOOL_DENIED: "agent.tool_denied",
}
_FIELDS = {
    EventType.CONVERSATION_CREATED: ("topic", "status"),
    EventType.CONVERSATION_STATUS: ("status",),
    EventType.TURN_STARTED: ("turn", "step", "attempt", "agent_id", "agent_name"),
    EventType.TOOL_STARTED: ("tool_use_id", "tool_name", "arguments"),
    EventType.TOOL_RESULT: ("tool_use_id", "tool_name", "content", "is_error"),
}
"""What is passed on of an event's data as it is."""


class _Voice:
    """What was passed on of the text that is spoken just now."""

    def __init__(self) -> None:
        self._place: tuple[int, int, int] | None = None
        self._parts: list[str] = []
        self._length = 0

    def hear(self, delta: Delta) -> str:
        """Return what is new and joins on to what was heard; a gap is left to the message."""
        place = (delta.turn, delta.step, delta.attempt)
        if place != self._place:
            self._place, self._parts, self._length = place, [], 0
        if delta.offset > self._length:
            return ""
        new = delta.text[self._length - delta.offset :]
        self._parts.append(new)
        self._length += len(new)
        return new

    def rest(self, turn: JsonValue, step: JsonValue, content: str) -> str:
        """Return what of a whole reply was not passed on."""
        if self._place is None or self._place[:2] != (turn, step):
            return content
        heard = "".join(self._parts)
        if content.startswith(heard):
            return content[len(heard) :]
        return "" if heard.strip() == content.strip() else content


class Narrator:
    """Tells one socket. `live_after`: events up to this seq are told again, not as they happen."""

    def __init__(self, chat_id: uuid.UUID, *, seq: int, live_after: int) -> None:
        self.seq = seq
        self._chat_id = chat_id
        self._live_after = live_after
        self._streams = True
        self._expected: deque[tuple[str, bool]] = deque(maxlen=_EXPECTED_KEPT)
        self._voice = _Voice()
        self._announced = 0
        """The latest model call whose beginning was told: text of a later one has to wait."""
        self._held: list[Delta] = []
        self._asked: dict[str, int] = {}

    def ready(self, standing: ChatStanding) -> Frame:
        """Say where the chat stands."""
        self.note(standing.pending)
        self._announced = standing.attempt or 0
        pending: list[JsonValue] = [
            {"id": call.tool_use_id, "name": call.tool_name, "arguments": call.arguments}
            for call in standing.pending
        ]
        data: Data = {
            "chat_id": str(self._chat_id),
            "state": standing.state.value,
            "pending_tool_calls": pending,
        }
        return self.say("session.ready", data)

    def say(self, type_: str, data: Data | None = None) -> Frame:
        """Make a frame of the socket's own."""
        return {
            "type": type_,
            "data": data or {},
            "timestamp": _stamp(datetime.now(UTC)),
            "seq": self.seq,
        }

    def expect(self, content: str, *, stream: bool) -> None:
        """Note how the answer to a message is wanted, before the message is on its way."""
        self._expected.append((content, stream))

    def note(self, calls: Iterable[PendingCall]) -> None:
        """Remember which approval a call waits for."""
        self._asked.update({call.tool_use_id: call.approval_id for call in calls})

    def approval_of(self, tool_use_id: str) -> int | None:
        """Return the approval that the call waits or waited for, as far as was told."""
        return self._asked.get(tool_use_id)

    def frames(self, item: Item) -> Sequence[Frame]:
        """Return what an item is told as."""
        if isinstance(item, Delta):
            return self._heard(item)
        if item.type is EventType.APPROVAL_DECIDED:
            return self._decided(item)
        if item.type is EventType.APPROVAL_VOTED:
            return self._voted(item)
        before = self._before(item)
        self.seq = item.seq
        type_, data = self._told(item)
        told: Frame = {
            "type": type_,
            "data": data,
            "timestamp": _stamp(item.created_at),
            "seq": item.seq,
        }
        return [*before, told, *self._after(item)]

    def _heard(self, delta: Delta) -> list[Frame]:
        """Return text as it is spoken. It comes faster than what is stored, so it may be early."""
        if delta.attempt > self._announced:
            self._held.append(delta)
            return []
        text = self._voice.hear(delta) if self._streams else ""
        return [self.say("agent.text_delta", {"text": text})] if text else []

    def _after(self, event: Event) -> list[Frame]:
        """Return what had to wait for an event."""
        attempt = event.data.get("attempt")
        if event.type is not EventType.TURN_STARTED or not isinstance(attempt, int):
            return []
        self._announced = max(self._announced, attempt)
        held, self._held = self._held, []
        return [frame for delta in held for frame in self._heard(delta)]

    def _before(self, event: Event) -> list[Frame]:
        """Return what goes before an event without being one."""
        if event.type is EventType.TURN_FAILED:
            reason = event.data.get("reason") or "The turn failed"
            return [self.say("agent.error", {"code": "turn_failed", "message": reason})]
        if self._is_spoken(event):
            content = str(event.data.get("content") or "")
            rest = self._voice.rest(event.data.get("turn"), event.data.get("step"), content)
            return [self.say("agent.text_delta", {"text": rest})] if rest else []
        return []

    def _is_spoken(self, event: Event) -> bool:
        """Whether the event is a reply whose text goes out as deltas."""
        is_live = self._streams and event.seq > self._live_after
        return is_live and event.type is EventType.MESSAGE_CREATED and _is_reply(event)

    def _told(self, event: Event) -> tuple[str, Data]:
        match event.type:
            case EventType.MESSAGE_CREATED:
                return self._message(event)
            case EventType.TURN_FAILED:
                is_spent = event.data.get("code") == BudgetExhausted.code
                stop = "budget_exceeded" if is_spent else "error"
                return "agent.turn_complete", _completed(stop, None, _NO_USAGE)
            case EventType.TURN_COMPLETED:
                data = event.data
                stop = data.get("stop_reason")
                return _TYPES[event.type], _completed(stop, data.get("model"), data.get("usage"))
            case EventType.TOOL_REQUESTED | EventType.TOOL_DENIED:
                return _TYPES[event.type], self._calls(event)
            case _ if event.type in _TYPES:
                fields = _FIELDS[event.type]
                return _TYPES[event.type], {name: event.data.get(name) for name in fields}
            case _:
                # Events of the conversation that came later: their data is made for clients.
                hidden = {"conversation_id", "agent_id"}
                kept = {name: value for name, value in event.data.items() if name not in hidden}
                return f"agent.{event.type.value.rpartition('.')[2]}", kept

    def _message(self, event: Event) -> tuple[str, Data]:
        data = event.data
        told: Data = {"message_id": data.get("id"), "turn": data.get("turn")}
        content = str(data.get("content") or "")
        if not _is_reply(event):
            self._streams = self._choice(content)
            return "user.message", {**told, "content": content}
        if content and not self._is_spoken(event):
            return "agent.text", {"text": content}
        return "agent.message", {**told, "step": data.get("step"), "length": len(content)}

    def _choice(self, content: str) -> bool:
        """Return how the answer to a message is wanted: as its sender here said, else as before."""
        for sent in self._expected:
            if sent[0] == content:
                self._expected.remove(sent)
                return sent[1]
        return self._streams

    def _calls(self, event: Event) -> Data:
        calls = event.data.get("tool_calls")
        told: list[JsonValue] = []
        for call in calls if isinstance(calls, list) else []:
            if isinstance(call, dict):
                told.append({name: call.get(name) for name in ("id", "name", "arguments")})
                approval_id = call.get("approval_id")
                if isinstance(approval_id, int):
                    self._asked[str(call.get("id"))] = approval_id
        if event.type is EventType.TOOL_DENIED:
            return {"tool_calls": told, "reason": event.data.get("reason")}
        return {"tool_calls": told}

    def _decided(self, event: Event) -> list[Frame]:
        return [self.decided(name, event.data.get("status")) for name in self._waiting_for(event)]

    def _voted(self, event: Event) -> list[Frame]:
        """Say that somebody said yes and that more have to; with what, where it was edited."""
        names = ("approvals_count", "required_approvals", "arguments")
        data = {name: event.data.get(name) for name in names}
        return [
            self.say("agent.tool_voted", {"tool_use_id": name, **data})
            for name in self._waiting_for(event)
        ]

    def _waiting_for(self, event: Event) -> list[str]:
        """Return the calls that wait, or waited, for an approval."""
        approval_id = event.data.get("id")
        return [name for name, asked in self._asked.items() if asked == approval_id]

    def decided(self, tool_use_id: str, status: JsonValue) -> Frame:
        """Say how a call was decided, whoever decided it."""
        return self.say("agent.tool_decided", {"tool_use_id": tool_use_id, "status": status})


def _is_reply(event: Event) -> bool:
    return event.data.get("role") == "assistant"


def _completed(stop_reason: JsonValue, model: JsonValue, usage: JsonValue) -> Data:
    return {"stop_reason": stop_reason, "model": model or "", "usage": usage}


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")

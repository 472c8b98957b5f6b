"""How events become frames: orders that a real socket shows only now and then."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from api.gateway.frames import Narrator
from schema.domain.chats import ChatStanding, ChatState
from schema.domain.events import Delta, Event, EventType


def event(seq: int, type_: EventType, **data: Any) -> Event:
    return Event(
        stream="conversation-1", type=type_, data=data, id=seq, xid=seq, seq=seq,
        created_at=datetime.now(UTC), conversation_id=1,
    )  # fmt: skip


def delta(text: str, offset: int, attempt: int = 7) -> Delta:
    return Delta(
        conversation_id=1, circle_id=None, owner=None, agent_id=1, turn=1, step=1,
        attempt=attempt, offset=offset, text=text,
    )  # fmt: skip


def asked(seq: int, content: str = "hi") -> Event:
    return event(seq, EventType.MESSAGE_CREATED, role="user", content=content)


def started(seq: int, attempt: int = 7) -> Event:
    return event(seq, EventType.TURN_STARTED, turn=1, step=1, attempt=attempt)


def said(seq: int, content: str) -> Event:
    return event(seq, EventType.MESSAGE_CREATED, role="assistant", content=content, turn=1, step=1)


def narrator() -> Narrator:
    return Narrator(uuid4(), seq=0, live_after=0)


def told(talk: Narrator, *items: Event | Delta) -> list[tuple[Any, Any, Any]]:
    frames: list[dict[str, Any]] = [dict(frame) for item in items for frame in talk.frames(item)]
    return [(frame["type"], frame["seq"], frame["data"].get("text")) for frame in frames]


def test_text_that_comes_before_its_turn_waits_for_it():
    assert told(narrator(), delta("He", 0), asked(1), delta("llo", 2), started(2)) == [
        ("user.message", 1, None),
        ("agent.turn_started", 2, None),
        ("agent.text_delta", 2, "He"),
        ("agent.text_delta", 2, "llo"),
    ]


def test_early_text_is_not_told_to_who_wants_it_whole():
    talk = narrator()
    talk.expect("hi", stream=False)
    shown = told(talk, delta("He", 0), asked(1), started(2), delta("llo", 2), said(3, "Hello"))
    assert shown[2:] == [("agent.text", 3, "Hello")]


@pytest.mark.parametrize(
    ("deltas", "texts"),
    [
        ([], ["Hello"]),
        ([delta("He", 0)], ["He", "llo"]),
        ([delta("He", 0), delta("lo", 3)], ["He", "llo"]),
        ([delta("lo", 3)], ["Hello"]),
        ([delta("Hel", 0), delta("llo", 2)], ["Hel", "lo"]),
        ([delta("Hello", 0), delta("Hello", 0)], ["Hello"]),
        ([delta("Hello ", 0)], ["Hello "]),
    ],
)
def test_what_deltas_left_out_goes_before_the_message(deltas: list[Delta], texts: list[str]):
    shown = told(narrator(), started(1), *deltas, said(2, "Hello"))
    assert [text for type_, _, text in shown if type_ == "agent.text_delta"] == texts
    assert shown[-1] == ("agent.message", 2, None)


def test_a_later_attempt_is_told_from_its_start():
    shown = told(
        narrator(), started(1), delta("Gone", 0), started(2, 8), delta("Hel", 0, 8),
        said(3, "Hello"),
    )  # fmt: skip
    assert [text for _, _, text in shown if text] == ["Gone", "Hel", "lo"]


def test_whoever_joins_while_a_model_speaks_hears_what_begins_now():
    talk = narrator()
    talk.ready(ChatStanding(state=ChatState.RUNNING, pending=[], attempt=7))
    assert told(talk, delta("Hel", 0)) == [("agent.text_delta", 0, "Hel")]


def test_a_failure_is_two_frames_and_one_seq():
    shown = narrator().frames(event(5, EventType.TURN_FAILED, reason="no key"))
    assert [(frame["type"], frame["seq"]) for frame in shown] == [
        ("agent.error", 0),
        ("agent.turn_complete", 5),
    ]


@pytest.mark.parametrize(
    ("code", "stop"),
    [("budget_exhausted", "budget_exceeded"), ("provider_refused", "error"), (None, "error")],
)
def test_a_turn_that_met_its_budget_says_so(code: str | None, stop: str):
    [_, ended] = narrator().frames(event(5, EventType.TURN_FAILED, reason="no", code=code))
    data: Any = ended["data"]
    assert data["stop_reason"] == stop


def test_the_same_text_is_told_whole_when_it_is_told_again():
    talk = Narrator(uuid4(), seq=0, live_after=2)
    assert told(talk, started(1), said(2, "Hello"))[-1] == ("agent.text", 2, "Hello")

"""The conversation without input or output: frames and lines in, actions out."""

from collections.abc import Sequence
from typing import Any

import pytest

from conclave.terminal.items import (
    Action,
    Answered,
    Asked,
    Command,
    Edit,
    Ended,
    Leave,
    Note,
    Problem,
    ReadBack,
    Said,
    Send,
    Spoken,
)
from conclave.terminal.session import Session
from conclave.terminal.wire import Frame, Turn
from tests.fakes.chat_server import USAGE, call


def frame(type_: str, **data: Any) -> Frame:
    return Frame(type=type_, data=data)


def ready(state: str = "idle", *pending: dict[str, Any]) -> Frame:
    return frame("session.ready", state=state, pending_tool_calls=list(pending))


def asked(*calls: dict[str, Any]) -> Frame:
    return frame("agent.tool_request", tool_calls=list(calls))


def delta(text: str) -> Frame:
    return frame("agent.text_delta", text=text)


def completed(stop_reason: str = "end_turn") -> Frame:
    return frame("agent.turn_complete", stop_reason=stop_reason, model="m", usage=USAGE)


def sent(actions: Sequence[Action], type_: str = "") -> list[dict[str, Any]]:
    messages = [action.message for action in actions if isinstance(action, Send)]
    return [message for message in messages if not type_ or message["type"] == type_]


def verdicts(actions: Sequence[Action]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for message in sent(actions, "tool_approval"):
        found |= message["verdicts"]
    return found


def spoken(actions: Sequence[Action]) -> str:
    return "".join(action.text for action in actions if isinstance(action, Spoken))


def notes(actions: Sequence[Action]) -> str:
    return "\n".join(action.text for action in actions if isinstance(action, Note | Problem))


def feed(session: Session, *frames: Frame) -> list[Action]:
    return [action for one in frames for action in session.on_frame(one)]


@pytest.fixture
def session() -> Session:
    begun = Session()
    begun.on_frame(ready())
    return begun


@pytest.fixture
def running(session: Session) -> Session:
    session.on_entry("go")
    return session


def test_a_line_is_a_message_and_the_answer_ends_with_its_usage(session: Session):
    [message] = sent(session.on_entry("hello"))
    assert (message["content"], message["stream"]) == ("hello", True)
    assert session.prompt == ""
    actions = feed(session, delta("Hi "), delta("there"), completed())
    assert spoken(actions) == "Hi there"
    [ended] = [action for action in actions if isinstance(action, Ended)]
    assert (ended.input_tokens, ended.output_tokens, ended.cost_usd) == (1200, 34, 0.0125)
    assert session.prompt == "> "


def test_pasted_lines_and_lines_that_go_on_are_one_message(session: Session):
    [pasted] = sent(session.on_entry("one\ntwo\n\nthree"))
    assert pasted["content"] == "one\ntwo\n\nthree"
    assert sent(session.on_entry("first \\")) == []
    assert session.prompt == "... "
    [continued] = sent(session.on_entry("second"))
    assert continued["content"] == "first \nsecond"


def test_blank_lines_send_nothing(session: Session):
    assert session.on_entry("") == []
    assert session.on_entry("   ") == []


@pytest.mark.parametrize(
    ("key", "verdict"), [("y", "allow"), ("a", "allow_always")], ids=["once", "always"]
)
def test_a_key_decides_the_call_that_is_asked_about(running: Session, key: str, verdict: str):
    actions = feed(running, asked(call("c1", path="x"), call("c2")))
    assert [action.call.id for action in actions if isinstance(action, Asked)] == ["c1", "c2"]
    assert running.prompt.startswith("[1] write_file: allow?")
    assert verdicts(running.on_entry(key)) == {"c1": verdict}
    assert running.prompt.startswith("[2] ")
    assert verdicts(running.on_entry("y")) == {"c2": "allow"}
    assert running.prompt == ""


def test_no_asks_for_a_reason_that_is_told(running: Session):
    feed(running, asked(call("c1"), call("c2")))
    assert running.on_entry("n") == []
    assert running.prompt.startswith("why not")
    assert verdicts(running.on_entry("too big")) == {"c1": {"verdict": "deny", "reason": "too big"}}
    running.on_entry("n")
    assert verdicts(running.on_entry("")) == {"c2": "deny"}


def test_capitals_decide_all_that_waits(running: Session):
    feed(running, asked(call("c1"), call("c2")), asked(call("c3")))
    assert verdicts(running.on_entry("Y")) == dict.fromkeys(("c1", "c2", "c3"), "allow")
    feed(running, asked(call("c4"), call("c5")))
    running.on_entry("N")
    denied = {"verdict": "deny", "reason": "all of it"}
    assert verdicts(running.on_entry("all of it")) == {"c4": denied, "c5": denied}


def test_what_is_no_verdict_decides_nothing(running: Session):
    feed(running, asked(call("c1")))
    for line in ("yes", "", "ok do it", "x", "yy"):
        assert sent(running.on_entry(line)) == []
    assert running.prompt.startswith("[1] ")


def test_edited_arguments_run_in_place_of_the_models(running: Session):
    feed(running, asked(call("c1", path="a")))
    [edit] = running.on_entry("e")
    assert isinstance(edit, Edit)
    assert verdicts(running.on_edited("c1", '{"path": "b"}')) == {
        "c1": {"verdict": "edit", "arguments": {"path": "b"}}
    }


@pytest.mark.parametrize("text", [None, "", "[1]", "{", '"x"'])
def test_an_edit_that_is_none_decides_nothing(running: Session, text: str | None):
    feed(running, asked(call("c1")))
    running.on_entry("e")
    assert sent(running.on_edited("c1", text)) == []
    assert running.prompt.startswith("[1] ")


def test_without_an_editor_arguments_are_typed(running: Session):
    feed(running, asked(call("c1")))
    running.on_entry("e")
    running.read_arguments()
    assert running.prompt.startswith("arguments as JSON")
    assert running.on_entry('{"path":') == []
    assert running.prompt == "... "
    running.on_entry('"b"}')
    edited = {"verdict": "edit", "arguments": {"path": "b"}}
    assert verdicts(running.on_entry("")) == {"c1": edited}


def test_a_call_decided_elsewhere_is_not_asked_about_any_more(running: Session):
    feed(running, asked(call("c1"), call("c2")))
    running.on_entry("n")
    actions = feed(running, frame("agent.tool_decided", tool_use_id="c1", status="approved"))
    assert "decided elsewhere" in notes(actions)
    assert running.prompt.startswith("[2] ")
    feed(running, frame("agent.tool_denied", tool_calls=[call("c2")], reason="expired"))
    assert running.prompt == ""


def test_a_verdict_that_was_not_taken_is_asked_for_again(running: Session):
    feed(running, asked(call("c1")))
    running.on_entry("y")
    actions = feed(running, frame("agent.error", code="forbidden", message="no", tool_use_id="c1"))
    assert notes(actions) == "no"
    assert running.prompt.startswith("[1] ")


@pytest.mark.parametrize("said", ["agent.tool_voted", "agent.error"])
def test_a_yes_that_was_counted_is_neither_asked_for_nor_said_again(running: Session, said: str):
    feed(running, asked(call("c1")))
    running.on_entry("y")
    told = {"code": "already_voted", "message": "1 of 2", "tool_use_id": "c1"}
    counted = {"approvals_count": 1, "required_approvals": 2}
    actions = feed(running, frame(said, **told, **counted))
    assert "1 of 2" in notes(actions)
    assert running.prompt == ""
    running.on_lost("cut")
    again = sent(feed(running, ready("waiting_approval", call("c1"))))
    assert "tool_approval" not in [message["type"] for message in again]


def test_verdicts_and_messages_that_got_lost_are_said_again(running: Session):
    [message] = sent(running.on_entry("and then this"))
    feed(running, asked(call("c1"), call("c2")))
    running.on_entry("y")
    running.on_lost("cut")
    again = feed(running, ready("waiting_approval", call("c1"), call("c2")))
    assert verdicts(again) == {"c1": "allow"}
    assert message in sent(again)
    assert "Connected again" in notes(again)
    assert not [action for action in again if isinstance(action, Asked)]


def test_a_verdict_that_arrived_is_not_said_again(running: Session):
    feed(running, asked(call("c1")))
    running.on_entry("y")
    running.on_lost("cut")
    assert verdicts(feed(running, ready("running"))) == {}


def test_calls_that_wait_when_one_comes_are_asked_about():
    session = Session()
    actions = feed(session, ready("waiting_approval", call("c7", path="x")))
    assert [action.call.id for action in actions if isinstance(action, Asked)] == ["c7"]
    assert session.prompt.startswith("[1] ")


# Text over cuts


def test_after_a_cut_only_the_rest_of_a_text_is_shown(running: Session):
    feed(running, delta("Hello wor"))
    running.on_lost("cut")
    actions = feed(running, ready(), frame("agent.text", text="Hello world."), completed())
    assert spoken(actions) == "ld."


def test_pieces_behind_a_hole_wait_for_the_whole_text(running: Session):
    feed(running, delta("Hello wor"))
    running.on_lost("cut")
    assert spoken(feed(running, ready("running"), delta(" are you?"))) == ""
    actions = feed(running, frame("agent.tool_started", tool_use_id="c", tool_name="t"))
    assert [action for action in actions if isinstance(action, ReadBack)]
    turns = [Turn(role="user", content="go"), Turn(role="assistant", content="Hello world, how")]
    assert spoken(running.on_transcript(turns)) == "ld, how"
    assert spoken(feed(running, delta("Next"))) == "Next"


def test_pieces_that_make_the_whole_text_need_no_transcript(running: Session):
    feed(running, delta("Hello wor"))
    running.on_lost("cut")
    actions = feed(
        running,
        ready("running"),
        delta("Hello "),
        delta("world"),
        frame("agent.message", length=11),
    )
    assert spoken(actions) == "ld"
    assert not [action for action in actions if isinstance(action, ReadBack)]
    assert spoken(feed(running, delta("More"))) == "More"


def test_a_step_that_ended_meanwhile_does_not_let_half_a_text_through(running: Session):
    feed(running, delta("One"))
    running.on_lost("cut")
    replayed = (frame("agent.text", text="One step."), frame("agent.tool_started", tool_name="t"))
    assert spoken(feed(running, ready("running"), *replayed, delta("lf a text"))) == " step."
    actions = feed(running, frame("agent.text", text="Half a text"))
    assert spoken(actions) == "Half a text"


def test_the_same_words_in_two_steps_are_shown_twice(running: Session):
    step = (delta("Done."), frame("agent.tool_started", tool_name="t"))
    assert spoken(feed(running, *step, *step)) == "Done.Done."
    whole = frame("agent.text", text="Done.")
    assert spoken(feed(running, whole, whole)) == "Done.Done."


def test_what_the_transcript_has_and_was_shown_is_not_shown_again(running: Session):
    feed(running, frame("agent.text", text="First."))
    running.on_lost("cut")
    feed(running, ready("running"))
    assert [a for a in feed(running, completed()) if isinstance(a, ReadBack)]
    said = [
        ("user", "go"),
        ("assistant", "First."),
        ("assistant", "Second."),
        ("assistant", "Third."),
    ]
    turns = [Turn(role=role, content=content) for role, content in said]
    assert spoken(running.on_transcript(turns)).split() == ["Second.", "Third."]
    assert spoken(feed(running, delta("Fresh"))) == "Fresh"


def test_a_model_that_is_asked_again_is_told_of(running: Session):
    actions = feed(running, delta("Half"), frame("agent.turn_started", turn=1, attempt=2))
    assert "asked again" in notes(actions)
    feed(running, delta("Whole"))
    running.on_lost("cut")
    assert spoken(feed(running, ready(), frame("agent.text", text="Whole."))) == "."


# Keys and commands


def test_interrupts_cancel_first_and_leave_then(running: Session):
    assert sent(running.on_interrupt()) == [{"type": "cancel"}]
    assert Leave(0) in running.on_interrupt()


def test_an_interrupt_between_turns_leaves_only_when_repeated(session: Session):
    first = session.on_interrupt()
    assert not sent(first)
    assert not [action for action in first if isinstance(action, Leave)]
    session.on_entry("")
    assert Leave(0) not in session.on_interrupt()
    assert Leave(0) in session.on_interrupt()


def test_a_cancel_that_got_lost_is_said_again(running: Session):
    running.on_interrupt()
    running.on_lost("cut")
    assert sent(feed(running, ready("running")), "cancel")
    running.on_lost("cut")
    assert not sent(feed(running, ready("idle"), completed("cancelled")), "cancel")


def test_the_end_of_input_leaves_a_turn_alone(running: Session):
    actions = running.on_end_of_input()
    assert Leave(0) in actions
    assert not sent(actions)
    assert "goes on" in notes(actions)


@pytest.mark.parametrize(
    ("line", "name", "argument"),
    [
        ("/profile", "profile", ""),
        ("/profile fast one", "profile", "fast one"),
        ("/profiles", "profiles", ""),
        ("/permissions readonly", "permissions", "readonly"),
        ("/context", "context", ""),
        ("/compact", "compact", ""),
        ("/resume abc ", "resume", "abc"),
        ("/chats", "chats", ""),
        ("/new", "new", ""),
    ],
)
def test_commands_for_the_server_are_handed_on(
    session: Session, line: str, name: str, argument: str
):
    assert session.on_entry(line) == [Command(name, argument)]


def test_commands_of_the_terminal(running: Session):
    assert "/compact" in notes(running.on_entry("/help"))
    assert "no /nonsense" in notes(running.on_entry("/nonsense"))
    assert sent(running.on_entry("/cancel")) == [{"type": "cancel"}]
    assert sent(running.on_entry("/panic")) == [{"type": "panic"}]
    assert Leave(0) in running.on_entry("/quit")


def test_commands_work_while_a_verdict_is_asked_for(running: Session):
    feed(running, asked(call("c1")))
    assert running.on_entry("/context") == [Command("context", "")]
    assert running.prompt.startswith("[1] ")


def test_compaction_errors_and_others_messages_are_shown(session: Session):
    actions = feed(
        session,
        frame("user.message", content="from another window"),
        frame("agent.compaction_started", tokens_before=6100, context_window=8000),
        frame("agent.context_compacted", tokens_before=6100, tokens_after=900, turns_removed=12),
        frame("agent.tool_result", tool_use_id="c", tool_name="t", content="no", is_error=True),
        frame("agent.error", message="the model is gone"),
        frame("something.new", anything=1),
    )
    assert Said("user", "from another window") in actions
    assert "6,100 of 8,000" in notes(actions)
    assert "12 turns: 6,100 tokens became 900" in notes(actions)
    assert Answered("t", "no", True) in actions
    assert Problem("the model is gone") in actions


def test_our_own_message_is_not_shown_back(running: Session):
    assert feed(running, frame("user.message", content="go")) == []


# Nobody at the terminal


def once(verdict: str = "deny") -> Session:
    session = Session(unattended=verdict, once=True)
    session.say("do it")
    return session


@pytest.mark.parametrize(
    ("stop_reason", "status"),
    [("end_turn", 0), ("max_tokens", 0), ("error", 1), ("tool_denied", 1), ("budget_exceeded", 1)],
)
def test_one_message_ends_with_a_status(stop_reason: str, status: int):
    session = once()
    [message] = sent(feed(session, ready()))
    assert message["content"] == "do it"
    assert Leave(status) in feed(session, completed(stop_reason))


@pytest.mark.parametrize("verdict", ["deny", "allow"])
def test_with_nobody_there_every_call_is_answered_at_once(verdict: str):
    session = once(verdict)
    feed(session, ready())
    actions = feed(session, asked(call("c1"), call("c2")))
    assert verdicts(actions) == {"c1": verdict, "c2": verdict}
    assert not [action for action in actions if isinstance(action, Asked)]


def test_one_message_waits_for_the_turn_that_runs_and_answers_for_its_own():
    session = once()
    assert sent(feed(session, ready("running")), "user_message") == []
    actions = feed(session, completed("error"))
    assert [message["content"] for message in sent(actions, "user_message")] == ["do it"]
    assert Leave(0) not in actions
    feed(session, frame("user.message", content="another's"), completed())
    feed(session, frame("user.message", content="do it"))
    assert Leave(0) in feed(session, completed())


def test_one_message_that_is_not_taken_is_the_end():
    session = once()
    feed(session, ready())
    assert Leave(1) in feed(session, frame("agent.error", code="forbidden", message="no"))


def test_an_interrupted_message_is_cancelled_and_says_so_in_its_status():
    session = once()
    feed(session, ready())
    assert sent(session.on_interrupt()) == [{"type": "cancel"}]
    assert Leave(130) in feed(session, completed("cancelled"))

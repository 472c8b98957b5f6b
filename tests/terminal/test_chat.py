"""`conclave chat` as a process: at a terminal and from scripts, before a server of the contract."""

import asyncio
import json
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from conclave.runtime import files
from conclave.runtime.plan import Layout
from tests.fakes.chat_server import CHAT, TOKEN, ChatServer, call, running_chat_server
from tests.harness.servers import free_port
from tests.harness.terminal import Terminal, at_a_terminal, run_conclave
from tests.waiting import until

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x1b[31mred\r\x9b1mx\x08\u202eevil"


async def echo(fake: ChatServer, content: str) -> None:
    await fake.tell("user.message", {"content": content})
    await fake.speak("You said: ", content)
    await fake.end_turn(f"You said: {content}")


@pytest.fixture
async def fake() -> AsyncGenerator[ChatServer]:
    async with running_chat_server(echo) as running:
        yield running


@asynccontextmanager
async def chatting(
    fake: ChatServer, *arguments: str, **environment: str
) -> AsyncGenerator[Terminal]:
    settings = {"CONCLAVE_URL": fake.url, "CONCLAVE_TOKEN": TOKEN, **environment}
    async with at_a_terminal("chat", *arguments, **settings) as terminal:
        yield terminal


async def say(fake: ChatServer, *arguments: str, typed: str = "", **environment: str):
    settings = {"CONCLAVE_URL": fake.url, "CONCLAVE_TOKEN": TOKEN, **environment}
    return await run_conclave("chat", *arguments, typed=typed, **settings)


# From scripts


async def test_one_message_prints_the_answer_alone(fake: ChatServer):
    result = await say(
        fake, "hello", "there", "--profile", "fast", "--agent", "3", "--project", "4"
    )
    assert (result.returncode, result.stdout) == (0, "You said: hello there\n"), result.stderr
    assert "demo-1 · 1,200 tokens in, 34 out · $0.0125" in result.stderr
    made = {"agent_id": 3, "profile": "fast", "project_id": 4}
    assert ("POST", "/api/chats", made) in fake.requests


async def test_what_is_piped_in_is_the_message(fake: ChatServer):
    result = await say(fake, "--no-stream", typed="line one\nline two\n")
    assert result.returncode == 0, result.stderr
    assert fake.said[0]["content"] == "line one\nline two\n"
    assert fake.said[0]["stream"] is False


async def test_an_empty_message_is_refused_before_anything_is_made(fake: ChatServer):
    result = await say(fake, typed=" \n")
    assert result.returncode == 1
    assert "nothing to send" in result.stderr
    assert fake.requests == []


@pytest.mark.parametrize(("flags", "verdict"), [((), "deny"), (("--yes",), "allow")])
async def test_from_a_script_tools_are_denied_unless_told_otherwise(
    flags: tuple[str, ...], verdict: str
):
    async def script(fake: ChatServer, _: str) -> None:
        await fake.ask(call("c1", path="x"), call("c2"))
        await until(lambda: len(fake.verdicts()) == 2)
        await fake.speak("Done.")
        await fake.end_turn("Done.")

    async with running_chat_server(script) as fake:
        result = await say(fake, "do it", *flags)
        assert (result.returncode, result.stdout) == (0, "Done.\n"), result.stderr
        assert fake.verdicts() == {"c1": verdict, "c2": verdict}


async def test_a_turn_that_fails_is_a_status_of_its_own():
    async def script(fake: ChatServer, _: str) -> None:
        await fake.complain(code="turn_failed", message="the model is gone")
        await fake.end_turn(stop_reason="error")

    async with running_chat_server(script) as fake:
        result = await say(fake, "do it")
        assert (result.returncode, result.stdout) == (1, "")
        assert "the model is gone" in result.stderr


async def test_a_stream_that_is_cut_twice_gives_the_whole_answer_once():
    async def script(fake: ChatServer, _: str) -> None:
        for number in range(2):
            await fake.speak(f"Part {number} begins ")
            fake.cut()
            await fake.tell(
                "agent.text", {"text": f"Part {number} begins and ends.\n"}, hidden=True
            )
            await until(lambda: fake.is_watched, what="the client")
        await fake.speak("The end.")
        await fake.end_turn("The end.")

    async with running_chat_server(script) as fake:
        result = await say(fake, "go")
        assert result.returncode == 0, result.stderr
        whole = "Part 0 begins and ends.\nPart 1 begins and ends.\nThe end.\n"
        assert result.stdout == whole, result.stderr
        assert result.stderr.count("Connection lost") == 2
        assert [message["type"] for message in fake.said].count("user_message") >= 1


async def test_pieces_that_nobody_repeats_are_read_back_from_the_transcript():
    async def script(fake: ChatServer, _: str) -> None:
        await fake.speak("Hello ")
        fake.cut()
        await fake.speak("to the ")  # nobody hears it
        await until(lambda: fake.is_watched, what="the client")
        await fake.speak("world.")
        fake.turns.append({"role": "assistant", "content": "Hello to the world."})
        await fake.end_turn()

    async with running_chat_server(script) as fake:
        result = await say(fake, "go")
        assert (result.returncode, result.stdout) == (0, "Hello to the world.\n"), result.stderr


async def test_a_server_that_is_not_there_is_told_of_in_a_sentence():
    settings = {"CONCLAVE_URL": f"http://127.0.0.1:{free_port()}", "CONCLAVE_TOKEN": TOKEN}
    result = await run_conclave("chat", "hello", **settings)
    assert result.returncode == 1
    assert "cannot be reached" in result.stderr
    assert "Traceback" not in result.stderr
    assert TOKEN not in result.stderr


async def test_an_unknown_chat_and_a_wrong_token_are_told_of(fake: ChatServer):
    unknown = await say(fake, "--chat", "nope", "hello")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    wrong = await say(fake, "hello", CONCLAVE_TOKEN="wrong-token")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "The token does not hold" in wrong.stderr
    assert "wrong-token" not in wrong.stderr


async def test_the_token_of_the_data_directory_is_taken_for_this_machine(
    fake: ChatServer, tmp_path: Path
):
    files.write_atomically(Layout(tmp_path).secrets, f"GATEWAY_TOKEN={TOKEN}\n")
    result = await run_conclave(
        "chat", "hi", CONCLAVE_URL=fake.url, CONCLAVE_DATA_DIR=str(tmp_path)
    )
    assert result.returncode == 0, result.stderr
    assert TOKEN not in result.stdout + result.stderr


async def test_the_token_of_the_data_directory_is_not_handed_to_other_machines(tmp_path: Path):
    files.write_atomically(Layout(tmp_path).secrets, f"GATEWAY_TOKEN={TOKEN}\n")
    elsewhere = {"CONCLAVE_URL": "http://192.0.2.1:9", "CONCLAVE_DATA_DIR": str(tmp_path)}
    result = await run_conclave("chat", "hi", **elsewhere)
    assert result.returncode == 1
    assert "No token" in result.stderr


async def test_a_data_directory_without_a_token_is_left_as_it_is(tmp_path: Path):
    result = await run_conclave("chat", "hi", "--data-dir", str(tmp_path / "new"))
    assert result.returncode == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--yes",)], ids=["help", "yes without a message"]
)
async def test_help_and_what_does_not_fit_show_no_token(arguments: tuple[str, ...]):
    result = await run_conclave("chat", *arguments, CONCLAVE_TOKEN=TOKEN)
    assert TOKEN not in result.stdout + result.stderr


# At a terminal


async def test_a_conversation_at_a_terminal(fake: ChatServer):
    async with chatting(fake) as terminal:
        await terminal.shows(f"Chat {CHAT}")
        await terminal.shows("> ")
        terminal.type("hello\n")
        await terminal.shows("You said: hello")
        await terminal.shows("1,200 tokens in")
        await terminal.shows("> ")
        terminal.type("\x04")
        await terminal.shows(f"conclave chat --chat {CHAT}")
        assert await terminal.ends() == 0
        assert TOKEN not in terminal.text


async def test_tools_are_decided_one_by_one_and_edited(tmp_path: Path):
    editor = tmp_path / "editor"
    editor.write_text(
        "#!/bin/sh\n"
        f'env > {tmp_path}/environment; stat -c %a "$1" > {tmp_path}/mode\n'
        'sed -i s/draft/final/ "$1"\n'
    )
    editor.chmod(editor.stat().st_mode | stat.S_IXUSR)

    async def script(fake: ChatServer, _: str) -> None:
        await fake.ask(call("c1", path="a.txt", content="one\ntwo"), call("c2", title="draft"))
        await fake.ask(call("c3"))
        await until(lambda: len(fake.verdicts()) == 3, timeout=30)
        started = {"tool_use_id": "c1", "tool_name": "write_file", "arguments": {"path": "a"}}
        await fake.tell("agent.tool_started", started)
        result = {"tool_use_id": "c1", "tool_name": "write_file", "is_error": False}
        await fake.tell("agent.tool_result", {**result, "content": "written\n" * 50})
        await fake.end_turn()

    async with running_chat_server(script) as fake, chatting(fake, EDITOR=str(editor)) as terminal:
        await terminal.shows("> ")
        terminal.type("go\n")
        await terminal.shows("| two")
        await terminal.shows("[1] write_file: allow?")
        terminal.type("y\n")
        await terminal.shows("[2] write_file: allow?")
        terminal.type("e\n")
        await terminal.shows("[3] write_file: allow?")
        terminal.type("n\n")
        await terminal.shows("why not")
        terminal.type("not now\n")
        await terminal.shows('write_file runs { "path": "a" }')
        await terminal.shows("more characters")
        await terminal.shows("tokens in")
        assert fake.verdicts() == {
            "c1": "allow",
            "c2": {"verdict": "edit", "arguments": {"title": "final"}},
            "c3": {"verdict": "deny", "reason": "not now"},
        }
        assert TOKEN not in (tmp_path / "environment").read_text()
        assert (tmp_path / "mode").read_text() == "600\n"


async def test_hostile_text_moves_no_cursor_and_hides_nothing():
    async def script(fake: ChatServer, _: str) -> None:
        await fake.speak(f"answer {HOSTILE}", "\x1b", "[2J")
        await fake.ask(call(f"c1{HOSTILE}", name=HOSTILE, command=f"rm {HOSTILE}\nnext"))
        await until(fake.verdicts, timeout=30)
        result = {"tool_use_id": "c1", "tool_name": HOSTILE, "content": HOSTILE}
        await fake.tell("agent.tool_result", {**result, "is_error": True})
        await fake.complain(code="turn_failed", message=HOSTILE)
        await fake.tell("user.message", {"content": HOSTILE})
        await fake.end_turn(stop_reason=HOSTILE)

    async with running_chat_server(script) as fake:
        async with chatting(fake, NO_COLOR="1", TERM="dumb") as terminal:
            await terminal.shows("> ")
            terminal.type("go\n")
            await terminal.shows("allow?")
            terminal.type("Y\n")
            await terminal.shows("tokens in")
            shown = terminal.text.replace("\r\n", "")
        for char in "\x1b\x07\x08\r\x9b\u202e":
            assert char not in shown, shown
        assert "owned" not in shown.split("allow?")[0].split("[1]")[0]
        assert "\\u001b[2J" in shown  # what is to be allowed is spelled out
        assert "\\u202e" in shown


async def test_a_cut_at_a_terminal_shows_and_heals():
    async def script(fake: ChatServer, content: str) -> None:
        await fake.speak("Hello ")
        await until(lambda: content != "wait" or not fake.is_watched, timeout=30)
        await fake.tell("agent.text", {"text": "Hello world."}, hidden=True)
        await fake.end_turn()

    async with running_chat_server(script) as fake, chatting(fake) as terminal:
        await terminal.shows("> ")
        terminal.type("wait\n")
        await terminal.shows("Hello ")
        fake.cut()
        await terminal.shows("Connection lost")
        await terminal.shows("Connected again")
        await terminal.shows("world.")
        await terminal.shows("tokens in")
        assert terminal.text.count("Hello ") == 1


async def test_ctrl_c_cancels_and_twice_leaves():
    async def script(fake: ChatServer, _: str) -> None:
        await fake.speak("Working")

    async with running_chat_server(script) as fake, chatting(fake) as terminal:
        await terminal.shows("> ")
        terminal.type("go\n")
        await terminal.shows("Working")
        terminal.press_interrupt()
        await terminal.shows("Cancelling")
        await until(lambda: {"type": "cancel"} in fake.said)
        await fake.end_turn(stop_reason="cancelled")
        await terminal.shows("cancelled")
        await terminal.shows("> ")
        terminal.type("again\n")
        await terminal.shows("Working")
        terminal.press_interrupt()
        await terminal.shows("Cancelling")
        terminal.press_interrupt()
        await terminal.shows("goes on without you")
        assert await terminal.ends() == 0


async def test_slash_commands_ask_the_server(fake: ChatServer):
    chat = f"/api/chats/{CHAT}"
    fake.answers["PUT", f"{chat}/profile"] = (200, {"profile_name": "small"})
    known = {"small": {"provider": "demo", "model": "demo-1"}}
    fake.answers["GET", "/api/profiles"] = (200, {"default": "small", "profiles": known})
    state = {"mode": "readonly", "tool_overrides": {"bash": "deny"}}
    fake.answers["PUT", "/api/permissions"] = (200, state)
    use = {"current_tokens": 400, "context_window": 800, "turns": 3, "model": "demo-1"}
    fake.answers["GET", f"{chat}/context"] = (200, use)
    fake.answers["POST", f"{chat}/compact"] = (400, {"detail": "There is too little to summarise"})
    listed = [{"chat_id": CHAT, "title": "Tea", "message_count": 7}]
    fake.answers["GET", "/api/chats"] = (200, {"chats": listed})
    async with chatting(fake) as terminal:
        for line, shown in [
            ("/profile small", "From the next model call on: small"),
            ("/profiles", "* small"),
            ("/permissions readonly", "All chats: readonly."),
            ("/context", "400 of 800 tokens (50%), 3 turns, demo-1"),
            ("/compact", "There is too little to summarise"),
            ("/chats", "   7  Tea"),
            ("/resume nope", "No /api/chats/nope here"),
            ("/help", "/permissions [MODE]"),
        ]:
            await terminal.shows("> ")
            terminal.type(f"{line}\n")
            await terminal.shows(shown)
        assert ("PUT", f"{chat}/profile", {"profile_name": "small"}) in fake.requests
        assert ("PUT", "/api/permissions", {"mode": "readonly"}) in fake.requests
        await terminal.shows("> ")
        terminal.type("/quit\n")
        assert await terminal.ends() == 0


async def test_lines_behind_a_command_wait_for_it(fake: ChatServer):
    fake.answers["PUT", f"/api/chats/{CHAT}/profile"] = (200, {"profile_name": "small"})
    async with chatting(fake) as terminal:
        await terminal.shows("> ")
        terminal.type("/profile small\nhello\n")
        await terminal.shows("You said: hello")
        assert terminal.text.index("call on: small") < terminal.text.index("You said")


async def test_a_chat_is_gone_on_with_and_another_begun(fake: ChatServer):
    fake.turns = [{"role": "user", "content": "tea?"}, {"role": "assistant", "content": "Green."}]
    async with chatting(fake, "--chat", CHAT, "--profile", "small") as terminal:
        await terminal.shows("No /api/chats")  # the fake has no such profile
    fake.answers["PUT", f"/api/chats/{CHAT}/profile"] = (200, {"profile_name": "small"})
    async with chatting(fake, "--chat", CHAT, "--profile", "small") as terminal:
        await terminal.shows("2 messages")
        await terminal.shows("> tea?")
        await terminal.shows("Green.")
        terminal.type("more\n")
        await terminal.shows("You said: more")
        assert fake.connections[-1] is None
        await terminal.shows("> ")
        terminal.type("/new\n")
        await until(lambda: fake.connections[-1] == "0", what="the new chat")
        terminal.type("hello\n")
        await terminal.shows("You said: hello")


async def test_the_token_stands_in_no_command_line(fake: ChatServer):
    async with chatting(fake) as terminal:
        await terminal.shows("> ")
        process = psutil.Process(terminal.process.pid)
        lines = [process.cmdline(), *(child.cmdline() for child in process.children(True))]
        assert TOKEN not in json.dumps(lines)


async def test_a_terminal_that_goes_away_ends_the_chat_but_not_the_turn():
    began = asyncio.Event()

    async def script(fake: ChatServer, _: str) -> None:
        await fake.speak("Working")
        began.set()

    async with running_chat_server(script) as fake:
        async with chatting(fake) as terminal:
            await terminal.shows("> ")
            terminal.type("go\n")
            await asyncio.wait_for(began.wait(), 20)
        await until(lambda: not fake.is_watched, what="the socket to close")
        assert not [message for message in fake.said if message["type"] == "cancel"]

"""`conclave approve`: what waits, listed and decided, before a server of the contract."""

from collections.abc import AsyncGenerator

import pytest

from conclave.errors import Invalid
from conclave.terminal.approve import ApproveOptions
from tests.fakes.chat_server import TOKEN, ChatServer, approval, running_chat_server
from tests.harness.terminal import at_a_terminal, run_conclave


@pytest.fixture
async def fake() -> AsyncGenerator[ChatServer]:
    waiting = [
        approval(7),
        approval(9, action="deploy\x1b[2J", type="custom", details={"to": "prod"}, agent_name=None),
    ]
    async with running_chat_server(approvals=waiting) as running:
        yield running


def settings(fake: ChatServer) -> dict[str, str]:
    return {"CONCLAVE_URL": fake.url, "CONCLAVE_TOKEN": TOKEN}


async def approve(fake: ChatServer, *arguments: str):
    return await run_conclave("approve", *arguments, **settings(fake))


def decisions(fake: ChatServer) -> list[tuple[str, object]]:
    return [(path, body) for method, path, body in fake.requests if method == "POST"]


async def test_what_waits_is_listed_and_decided_by_nobody(fake: ChatServer):
    result = await approve(fake)
    assert result.returncode == 0, result.stderr
    first, second = result.stdout.splitlines()
    assert first.split() == (
        "7 5 m old high execute_tool:bash ada expires in 23 h".split()  # noqa: SIM905
    )
    assert second.split()[:6] == ["9", "5", "m", "old", "high", "deploy"]
    assert "\x1b" not in result.stdout
    assert decisions(fake) == []


async def test_nothing_that_waits_is_said():
    async with running_chat_server() as fake:
        result = await approve(fake)
        assert (result.returncode, result.stdout) == (0, "Nothing waits.\n")


async def test_one_is_approved_and_one_rejected_without_asking(fake: ChatServer):
    yes = await approve(fake, "7", "--yes", "--note", "fine")
    no = await approve(fake, "9", "--no", "--reason", "too early")
    assert (yes.returncode, no.returncode) == (0, 0), yes.stderr + no.stderr
    assert decisions(fake) == [
        ("/api/v1/approvals/7/approve", {"note": "fine"}),
        ("/api/v1/approvals/9/reject", {"reason": "too early"}),
    ]
    assert "7: approved" in yes.stdout
    assert "9: rejected (too early)" in no.stdout


async def test_all_that_waits_is_decided_at_once(fake: ChatServer):
    result = await approve(fake, "--all", "--no")
    assert result.returncode == 0, result.stderr
    assert {one["status"] for one in fake.approvals.values()} == {"rejected"}


async def test_the_second_decision_is_told_how_the_first_went(fake: ChatServer):
    fake.approvals[7] |= {"status": "rejected", "decided_by": 4, "rejection_reason": "no\x07pe"}
    result = await approve(fake, "7", "--yes")
    assert result.returncode == 1
    assert result.stdout == "7: rejected by user 4 (nope)\n"


async def test_an_unknown_one_is_told_of(fake: ChatServer):
    result = await approve(fake, "77", "--yes")
    assert result.returncode == 1
    assert "Approval 77 not found" in result.stdout + result.stderr


async def test_they_are_decided_one_by_one_at_a_terminal(fake: ChatServer):
    async with at_a_terminal("approve", NO_COLOR="1", **settings(fake)) as terminal:
        await terminal.shows('command: "ls"')
        await terminal.shows("approve?")
        terminal.type("perhaps\n")
        await terminal.shows("y: yes")
        await terminal.shows("approve?")
        terminal.type("e\n")
        await terminal.shows("arguments as JSON")
        terminal.type('{"command": "ls -l"}\n')
        await terminal.shows("... ")
        terminal.type("\n")
        await terminal.shows("7: approved")
        await terminal.shows("[9] deploy\\u001b[2J (high)")
        await terminal.shows("approve?")
        terminal.type("n\n")
        await terminal.shows("why not")
        terminal.type("never\n")
        await terminal.shows("9: rejected (never)")
        assert await terminal.ends() == 0
    assert decisions(fake) == [
        ("/api/v1/approvals/7/approve", {"arguments": {"command": "ls -l"}}),
        ("/api/v1/approvals/9/reject", {"reason": "never"}),
    ]


async def test_skipping_and_leaving_decide_nothing(fake: ChatServer):
    async with at_a_terminal("approve", **settings(fake)) as terminal:
        await terminal.shows("approve?")
        terminal.type("s\n")
        await terminal.shows("approve?")
        terminal.type("q\n")
        assert await terminal.ends() == 0
    assert decisions(fake) == []


async def test_an_answer_typed_before_its_question_does_not_count(fake: ChatServer):
    async with at_a_terminal("approve", **settings(fake)) as terminal:
        await terminal.shows("approve?")
        terminal.type("y\ny\ny\n")
        await terminal.shows("7: approved")
        await terminal.shows("approve?")
        terminal.type("q\n")
        assert await terminal.ends() == 0
    assert [path for path, _ in decisions(fake)] == ["/api/v1/approvals/7/approve"]


async def test_watching_asks_about_what_comes_later():
    async with running_chat_server() as fake:
        async with at_a_terminal("approve", "--watch", **settings(fake)) as terminal:
            await terminal.shows("Watching")
            fake.approvals[3] = approval(3)
            await terminal.shows("approve?")
            terminal.type("y\n")
            await terminal.shows("3: approved")
            fake.answers["GET", "/api/v1/approvals"] = (503, {"detail": "restarting"})
            await terminal.shows("trying again")
            fake.approvals[4] = approval(4)
            del fake.answers["GET", "/api/v1/approvals"]
            await terminal.shows("approve?")
            terminal.press_interrupt()
            assert await terminal.ends() == 130
        assert [path for path, _ in decisions(fake)] == ["/api/v1/approvals/3/approve"]


@pytest.mark.parametrize(
    "options",
    [
        {"verdict": True},
        {"every": True},
        {"every": True, "verdict": True, "approval_id": 7},
        {"watch": True, "verdict": True, "every": True},
        {"watch": True, "approval_id": 7},
        {"approval_id": 7, "verdict": True, "reason": "x"},
        {"approval_id": 7, "verdict": False, "note": "x"},
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, object]):
    with pytest.raises(Invalid):
        ApproveOptions(**options)  # pyright: ignore[reportArgumentType]


async def test_help_shows_no_token():
    result = await run_conclave("approve", "--help", CONCLAVE_TOKEN=TOKEN)
    assert result.returncode == 0
    assert TOKEN not in result.stdout


def of_several(count: int = 0, required: int = 2, **fields: object) -> dict[str, object]:
    several = {"required_approvals": required, "approvals_count": count, "arguments": None}
    return approval(7, **{**several, **fields})


async def test_a_vote_that_does_not_decide_says_how_many_there_are():
    async with running_chat_server(approvals=[of_several()]) as fake:
        listed = await approve(fake)
        assert listed.stdout.rstrip().endswith("expires in 23 h  0 of 2")
        first, second = await approve(fake, "7", "--yes"), await approve(fake, "7", "--yes")
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout == "7: 1 of 2 said yes, it waits for more\n"
    assert second.stdout.startswith("7: approved")


async def test_a_second_vote_of_the_same_person_is_told_of():
    async with running_chat_server(approvals=[of_several(1, has_voted=True)]) as fake:
        result = await approve(fake, "7", "--yes")
    assert result.returncode == 1
    assert result.stdout == "7: one vote a person\n"


async def test_a_yes_names_the_edited_arguments_that_were_shown():
    edited = {"command": "ls /tmp"}
    async with running_chat_server(approvals=[of_several(1, arguments=edited)]) as fake:
        unseen = await approve(fake, "7", "--yes")
        assert (unseen.returncode, unseen.stdout) == (1, "7: they were edited\n")
        async with at_a_terminal("approve", NO_COLOR="1", **settings(fake)) as terminal:
            await terminal.shows("(high, 1 of 2)")
            await terminal.shows("edited by somebody who said yes:")
            await terminal.shows('command: "ls /tmp"')
            await terminal.shows("approve?")
            terminal.type("y\n")
            await terminal.shows("7: approved")
            assert await terminal.ends() == 0
        assert decisions(fake)[-1] == ("/api/v1/approvals/7/approve", {"arguments": edited})

"""bash, python and search in a real sandbox, and git kept apart from them."""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path

import pytest

from conclave.adapters.sandbox.host import HostSandbox
from conclave.adapters.workspace.locks import TreeLock, acquire
from schema.domain.sandbox import SandboxCommand, SandboxConfig, SandboxResult
from tests.core.tools.conftest import Bench, bench_at
from tests.waiting import until


async def test_a_command_runs_in_the_workspace_and_says_how_it_ended(bench: Bench):
    bench.write("sub/a.txt", "hello\n")
    said = await bench.said("bash", command="cat a.txt; pwd; echo made >b.txt", cwd="sub")
    assert said == "hello\n/workspace/sub\n[exit code 0]"
    assert bench.read("sub/b.txt") == "made\n"
    failed = await bench.refused("bash", command="echo oops >&2; exit 3")
    assert failed == "[stderr only]\noops\n[exit code 3]"


async def test_a_command_sees_nothing_of_ours(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    assert "sk-test" not in await bench.said("bash", command="env; cat /proc/1/environ || true")
    await bench.refused("bash", command=f"ls {tmp_path}")


async def test_a_long_output_keeps_both_ends_and_says_so(bench: Bench):
    said = await bench.said("bash", command="seq 1 20000")
    assert said.startswith("1\n2\n")
    assert said.endswith("19999\n20000\n[exit code 0]")
    assert "characters left out" in said
    flood = await bench.said("bash", command="seq 1 100000")
    assert "Write it to a file" in flood
    assert len(flood) < 45_000


async def test_a_command_that_takes_too_long_is_ended(bench: Bench):
    said = await bench.refused("bash", command="echo begun; sleep 60", timeout_seconds=1)
    assert said == "begun\n[ended by the sandbox: it did not end within 1 s]"


async def test_the_sandbox_sets_the_limit_that_a_call_can_only_lower(bench: Bench):
    bench.rules.config = SandboxConfig(timeout_seconds=1)
    said = await bench.refused("bash", command="sleep 60", timeout_seconds=600)
    assert "within 1 s" in said


async def test_python_runs_with_the_workspace_at_hand(bench: Bench):
    bench.write("answers.py", "ANSWER = 42\n")
    code = "import answers\nopen('out', 'w').write(str(answers.ANSWER))\nprint(answers.ANSWER)"
    assert await bench.said("python", code=code) == "42\n[exit code 0]"
    assert bench.read("out") == "42"
    assert "ZeroDivisionError" in await bench.refused("python", code="1 / 0")


async def test_what_cannot_be_run_is_an_answer(bench: Bench):
    assert "longer" in await bench.refused("bash", command="é" * 90_000)
    assert "no such directory" in await bench.refused("bash", command="ls", cwd="nowhere")
    assert "cwd must stay" in await bench.refused("bash", command="ls", cwd="../..")
    bench.rules.config = SandboxConfig(enabled=False)
    assert "switched off" in await bench.refused("bash", command="ls")


async def test_lines_are_found_with_their_numbers(bench: Bench):
    bench.write("src/a.py", "def one_id():\n    pass\n")
    bench.write("b.md", "def two_id(\n")
    bench.write(".gitignore", "ignored\n")
    bench.write("ignored/c.py", "def three_id():\n")
    assert (await bench.said("search_files", pattern=r"def \w+_id\(")).splitlines() == [
        "b.md:1:def two_id(", "src/a.py:1:def one_id():",
    ]  # fmt: skip
    assert await bench.said("search_files", pattern="DEF", glob="*.py", ignore_case=True) == (
        "src/a.py:1:def one_id():"
    )
    assert await bench.said("search_files", pattern="id(", literal=True, path="src") == (
        "src/a.py:1:def one_id():"
    )
    assert await bench.said("search_files", pattern="nothing like it") == "[No line matches.]"
    assert "The search failed" in await bench.refused("search_files", pattern="(")
    assert "not found" in await bench.refused("search_files", pattern="x", path="-rf")


async def test_a_search_is_capped_and_says_so(bench: Bench):
    for name in ("a", "b", "c"):
        bench.write(name, "hit\n" * 80)
    said = await bench.said("search_files", pattern="hit", limit=60)
    assert said.splitlines()[:2] == ["a:1:hit", "a:2:hit"]
    assert said.splitlines()[-1].startswith("[60 of 150 lines shown, at most 50 of a file")


class WithoutRipgrep(HostSandbox):
    async def run(self, command: SandboxCommand, config: SandboxConfig) -> SandboxResult:
        if command.argv[0] == "rg":
            return SandboxResult(exit_code=127, stdout="", stderr="", duration_ms=0)
        return await super().run(command, config)


async def test_grep_stands_in_for_ripgrep(directory: Path):
    bench = bench_at(directory, WithoutRipgrep())
    bench.write("src/a.py", "def one_id():\n")
    bench.write("b.md", "def two_id(\n")
    assert await bench.said("search_files", pattern=r"def \w+_id\(", glob="*.py") == (
        "src/a.py:1:def one_id():"
    )


async def test_a_program_that_is_not_there_is_told_as_such(bench: Bench):
    """What the search takes as a sign that there is no ripgrep."""
    assert "[exit code 127]" in await bench.refused("bash", command="no-such-program")
    workspace = await bench.workspace()
    command = SandboxCommand(argv=("no-such-program",), workspace=str(workspace.path))
    assert (await HostSandbox().run(command, SandboxConfig())).exit_code == 127


async def test_without_a_sandbox_plain_texts_are_found(bench: Bench):
    bench.write("src/a.py", "one (two)\n")
    bench.write("src/b.py", "three\n")
    bench.rules.config = SandboxConfig(enabled=False)
    assert "set literal" in await bench.refused("search_files", pattern="one")
    assert await bench.said("search_files", pattern="E (T", literal=True, ignore_case=True) == (
        "src/a.py:1:one (two)"
    )


async def test_a_pattern_that_would_take_for_ever_does_not(bench: Bench):
    bench.write("a.txt", "a" * 100_000 + "\n")
    async with asyncio.timeout(30):
        assert await bench.said("search_files", pattern="(a+)+b") == "[No line matches.]"


async def test_git_waits_for_a_command_to_end(bench: Bench):
    workspace = await bench.workspace()
    await bench.said("git_init")
    command = asyncio.create_task(
        bench.said("bash", command="touch begun; while [ ! -e go ]; do sleep 0.05; done")
    )
    await until((bench.tree / "begun").exists, what="the command to begin")
    status = asyncio.create_task(bench.said("git_status"))
    beside = await bench.said("bash", command="echo beside")
    assert beside.startswith("beside")
    assert not status.done()
    await workspace.files.write("go", b"")
    await command
    assert "begun" in await status


async def test_a_command_waits_for_git_to_end(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    await bench.workspace()
    asked: list[int] = []
    granted: list[int] = []

    async def noted(descriptor: int, how: int, *, seconds: float) -> None:
        asked.append(how)
        await acquire(descriptor, how, seconds=seconds)
        granted.append(how)

    async with TreeLock(bench.home).still():
        monkeypatch.setattr("conclave.adapters.workspace.locks.acquire", noted)
        late = asyncio.create_task(bench.said("bash", command="echo late"))
        await until(lambda: asked, what="the command to ask for the lock")
        assert granted == []
    assert (await late).startswith("late")
    assert granted == [fcntl.LOCK_SH]

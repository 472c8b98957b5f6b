"""What a command gets, what comes back, and when it is refused."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from conclave.adapters.sandbox.host import HostSandbox
from conclave.errors import Invalid, SandboxRefused
from schema.domain.sandbox import (
    KilledBy,
    SandboxCommand,
    SandboxConfig,
    WorkspaceMode,
)
from tests.adapters.sandbox.shell import LIMITS, SECRET, Shell, running


async def test_both_backends_work_here(sandbox: HostSandbox):
    status = await sandbox.status()
    assert status.available, status.reason
    assert status.backend in {"bubblewrap", "namespaces"}


# What comes back


async def test_a_command_gets_its_workspace_and_nothing_else_writable(shell: Shell):
    result = await shell.sh("pwd; echo made >here; mkdir -p a/b; cat here; ls /")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[:2] == ["/workspace", "made"]
    assert not {"home", "root", "run", "sys", "srv", "var", "opt"} & set(result.stdout.split())
    assert (shell.workspace / "here").read_text() == "made\n"
    assert (shell.workspace / "a/b").is_dir()
    assert (shell.workspace / "here").stat().st_uid == os.geteuid()
    (shell.workspace / "here").write_text("ours")
    assert (await shell.sh("cat here; rm here")).stdout == "ours"


async def test_a_read_only_workspace_stays_as_it_is(shell: Shell):
    (shell.workspace / "file").write_text("old")
    result = await shell.sh("cat file; echo new >file; touch other", mode=WorkspaceMode.READ_ONLY)
    assert result.stdout == "old"
    assert result.exit_code != 0
    assert [path.name for path in shell.workspace.iterdir()] == ["file"]
    assert (shell.workspace / "file").read_text() == "old"


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("nonesuch-program", 127)]
)
async def test_exit_codes_come_back(shell: Shell, script: str, code: int):
    result = await shell.sh(script)
    assert (result.exit_code, result.killed_by, result.timed_out) == (code, None, False)


async def test_a_signal_is_told(shell: Shell):
    result = await shell.sh("kill -SEGV $$")
    assert result.exit_code == 128 + signal.SIGSEGV
    assert result.killed_by is KilledBy.SIGNAL


async def test_programs_are_found_by_name_and_by_path(shell: Shell):
    tool = shell.workspace / "tool"
    tool.write_text("#!/bin/sh\necho ran\n")
    assert (await shell.argv("./tool")).exit_code == 126
    tool.chmod(0o755)
    assert (await shell.argv("./tool")).stdout == "ran\n"
    assert (await shell.argv("tool")).exit_code == 127
    assert (await shell.argv("echo", "--", "-n", "; ls")).stdout == "-- -n ; ls\n"
    assert "not found" in (await shell.argv("nonesuch")).stderr


async def test_input_and_binary_output(shell: Shell):
    result = await shell.argv("cat", stdin="grüße\n".encode() + b"\xff\x00end")
    assert result.stdout == "grüße\n\ufffd\ufffdend"
    assert (await shell.argv("cat")).stdout == ""
    large = b"x" * 1024**2
    assert (await shell.argv("wc", "-c", stdin=large)).stdout.strip() == str(len(large))
    assert (await shell.argv("true", stdin=large)).exit_code == 0


async def test_broken_pipes_end_a_producer(shell: Shell):
    result = await shell.sh("yes | head -1")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "y\n", "")


async def test_a_working_directory_in_the_workspace(shell: Shell):
    (shell.workspace / "sub/deep").mkdir(parents=True)
    assert (await shell.argv("pwd", cwd="sub/deep")).stdout == "/workspace/sub/deep\n"


async def test_extra_paths_are_seen_and_not_written(shell: Shell, tmp_path: Path):
    (tmp_path / "skill.txt").write_text("skill")
    result = await shell.sh(
        f"cat {tmp_path}/skill.txt; echo >{tmp_path}/skill.txt", read_only=(str(tmp_path),)
    )
    assert result.stdout == "skill"
    assert "Read-only" in result.stderr
    assert (tmp_path / "skill.txt").read_text() == "skill"


async def test_the_environment_is_only_what_was_asked_for(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PLANTED", SECRET)
    result = await shell.sh("env; cat /proc/*/environ", env={"MINE": "a=b c"})
    names = {line.partition("=")[0] for line in result.stdout.split("\n")}
    assert "MINE=a=b c" in result.stdout
    assert SECRET not in result.stdout
    assert {"PATH", "HOME", "LANG", "TMPDIR"} <= names
    assert not {"PLANTED", "VIRTUAL_ENV", "DATABASE_URL"} & names


# Commands that are refused


async def test_a_directory_that_leads_out_by_a_link_is_refused(shell: Shell):
    (shell.workspace / "out").symlink_to("/etc")
    (shell.workspace / "loop").symlink_to("loop")
    for cwd in ("out", "loop", "missing"):
        with pytest.raises(Invalid) as refused:
            await shell.argv("ls", cwd=cwd)
        assert refused.value.field == "cwd"


async def test_a_network_is_refused_with_a_sentence(shell: Shell):
    command = SandboxCommand(argv=("true",), workspace=str(shell.workspace))
    with pytest.raises(SandboxRefused, match="network"):
        await shell.sandbox.run(command, SandboxConfig(network_enabled=True))


async def test_switched_off_means_refused(shell: Shell):
    command = SandboxCommand(argv=("touch", "ran"), workspace=str(shell.workspace))
    with pytest.raises(SandboxRefused, match="switched off"):
        await shell.sandbox.run(command, SandboxConfig(enabled=False))
    assert not (shell.workspace / "ran").exists()


async def test_without_any_sandbox_commands_are_refused(workspace: Path):
    sandbox = HostSandbox(backends=[])
    status = await sandbox.status()
    assert (status.backend, status.available) == ("none", False)
    command = SandboxCommand(argv=("touch", "ran"), workspace=str(workspace))
    with pytest.raises(SandboxRefused, match="no sandbox works"):
        await sandbox.run(command, SandboxConfig())
    assert not (workspace / "ran").exists()


async def test_an_operator_may_allow_commands_without_a_sandbox(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PLANTED", SECRET)
    sandbox = HostSandbox(backends=[], unsandboxed="allow", limits=LIMITS)
    status = await sandbox.status()
    assert (status.backend, status.available) == ("unsandboxed", True)
    assert "WITHOUT" in status.reason
    command = SandboxCommand(
        argv=("sh", "-c", "pwd; env; setsid sleep 987 >/dev/null 2>&1 &"), workspace=str(workspace)
    )
    result = await sandbox.run(command, SandboxConfig())
    assert result.stdout.startswith(f"{workspace}\n")
    assert SECRET not in result.stdout
    assert not running("sleep\x00987")


async def test_what_does_not_work_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    status = await HostSandbox().status()
    assert status.backend == "namespaces"
    assert "bubblewrap: it is not installed" in status.reason
